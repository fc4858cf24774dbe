// Times of one decode step of one attention layer on a GPU: 32 query heads, 8 KV heads, head_dim 128, bf16. Each stage,
// the whole from query to attention output, and dense attention; records on the device, then in mapped host memory, and there
// with a hot set too, for queries that want many keys again.
// Prints a JSON a line: the machine first, then the cases, the most telling lengths first, so that a run that is ended
// early has them.
//
// A case is a tape of many steps, the layers in turn (cuda_layers.h), timed from its launch to its end by the host's
// clock and divided by its steps; `emptyTapeUs` is a tape that does nothing: 1 / steps of it is in every time.
//
// Arguments: --pool-mib N (16384), --runs N (11), --cpu; K-tokens x batch pairs as in "128x1" (default all).
#include <cstdio>

#if __has_include(<cuda_runtime_api.h>)
#include <cuda_runtime_api.h>
#endif

#include "cuda_layers.h"

using namespace bench;

namespace {

struct Length {
  uint32_t kilo_tokens, batch;
  bool has_hot_cases;
};
constexpr Length kLengths[] = {{128, 1, true}, {32, 1, false}, {1024, 1, false},
                               {512, 1, false}, {128, 8, true}, {32, 8, false}};

// How far queries drift for about nine and for six tenths of the keys to be in the hot set, found by trial at 128K; what it had
// is printed. It holds more than one step: with the step before alone, they have six tenths and a quarter in common.
struct HotCase {
  uint32_t top_k;
  double drifts[2];
};
constexpr HotCase kHotCases[] = {{100, {0.02, 0.12}}, {1024, {0.025, 0.16}}, {2048, {0.03, 0.2}}};

constexpr Policy kPolicies[] = {
    {"paper: tiered, mean, 10 %", PKV_VOTES_TIERED, PKV_GROUP_MEAN, 0.10, 1},
    {"default: graded, sum, 5 %", PKV_VOTES_GRADED, PKV_GROUP_SUM, 0.05, 4},
    {"graded, mean, 2 %", PKV_VOTES_GRADED, PKV_GROUP_MEAN, 0.02, 4},
    {"graded, sum, 2 %", PKV_VOTES_GRADED, PKV_GROUP_SUM, 0.02, 4},
};
constexpr const char* kStages[] = {"probe", "collide", "select", "rerank", "attend"};

// What a step cannot do without: the ids of the zone, the summaries of the candidates, the window, and the fetched
// records, which alone may lie on the host.
struct LeastBytes {
  double device, records;
};
LeastBytes least_bytes(const Layers& layers, const std::string& stage) {
  const double heads = double{kKvHeads} * layers.batch, tokens = layers.zone_tokens;
  const double window = kSinkTokens + kRingUsedTokens, record = kRecordBytes;
  if (stage == "dense") return {heads * window * record, heads * tokens * record};
  const double ids = tokens * kSubspaces, candidates = layers.candidates * (kHeadDim / 2.0 + kSubspaces);
  const LeastBytes attend = {heads * window * record, heads * std::min(layers.top_k, layers.candidates) * record};
  if (stage == "collide") return {heads * ids, 0};
  if (stage == "rerank") return {heads * candidates, 0};
  if (stage == "attend") return attend;
  if (stage == "whole") return {heads * (ids + candidates) + attend.device, attend.records};
  return {0, 0};
}

void print_case(const Layers& layers, const char* records, const std::string& stage, const char* policy, Spread seconds,
                uint32_t steps) {
  LeastBytes bytes = least_bytes(layers, stage);
  std::string hot;
  if (layers.hot_lines > 0) {
    const double hit_rate = layers.hit_rate();
    bytes = {bytes.device + hit_rate * bytes.records, (1 - hit_rate) * bytes.records};
    hot = ", \"drift\": " + std::to_string(layers.drift) + ", \"hotLines\": " + std::to_string(layers.hot_lines) +
          ", \"hitRate\": " + std::to_string(hit_rate);
  }
  std::printf("{\"contextTokens\": %u, \"batch\": %u, \"records\": \"%s\", \"policy\": \"%s\", \"topK\": %u, "
              "\"candidates\": %u, \"stage\": \"%s\", \"layers\": %u, \"steps\": %u, \"medianUs\": %.2f, "
              "\"lowUs\": %.2f, \"highUs\": %.2f, \"leastDeviceBytes\": %.0f, \"leastRecordBytes\": %.0f%s}\n",
              layers.zone_tokens, layers.batch, records, policy, layers.top_k, layers.candidates, stage.c_str(),
              layers.layers, steps, seconds.median * 1e6, seconds.low * 1e6, seconds.high * 1e6, bytes.device,
              bytes.records, hot.c_str());
  std::fflush(stdout);
}

void bench_length(const Side& side, const Pools& pools, Length length, int runs) {
  Layers layers(side, pools, length.kilo_tokens * 1024, length.batch);
  const auto time = [&](const char* records, const char* stage, const char* policy) {
    print_case(layers, records, stage, policy, layers.time(stage, runs, layers.steps), layers.steps);
  };
  for (const bool on_device : {false, true}) {
    const char* const records = on_device ? "device" : "mapped";
    layers.place_records(on_device);
    for (const Policy& policy : kPolicies) {
      const bool every_k = &policy - kPolicies < 2;
      for (const uint32_t top_k : {100u, 1024u, 2048u}) {
        if (top_k != 100 && !every_k) continue;
        layers.plan_for(policy, top_k);
        time(records, "whole", policy.name);
        // The stages one by one: what comes before attend knows nothing of records, and where attend alone would run
        // again and again its keys would not be new.
        if (!on_device || top_k == 1024) continue;
        for (const char* stage : kStages) time(records, stage, policy.name);
      }
    }
  }
  // After the stages, for a dense step leaves nothing of a plan behind.
  layers.set_mode(PKV_MODE_DENSE);
  const uint32_t steps = std::max(layers.layers, 8u);
  print_case(layers, "device", "dense", "dense", layers.time("attend", runs, steps), steps);
  if (!length.has_hot_cases) return;
  layers.place_records(false);
  for (const HotCase& hot : kHotCases) {
    for (const double drift : hot.drifts) {
      layers.plan_for(kPolicies[0], hot.top_k, true);
      layers.drift = drift;
      time("mapped", "whole", kPolicies[0].name);
    }
  }
}

double read_gigabytes_a_second(const Buffer& buffer, uint64_t bytes) {
  std::vector<double> seconds(5);
  for (double& run : seconds) must(pkv_buffer_time_read(buffer.get(), &run));
  return static_cast<double>(bytes) / spread_of(seconds).median * 1e-9;
}

uint64_t free_device_bytes() {
#if __has_include(<cuda_runtime_api.h>)
  size_t free_bytes = 0, total_bytes = 0;
  if (cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess) return free_bytes;
#endif
  return 0;
}

void print_machine(const Side& side, const Pools& pools, int runs) {
  const uint64_t keys = pools.head_pages * PKV_PAGE_TOKENS;
  const uint64_t before = free_device_bytes();
  const Buffer again = side.allocate(pools.head_pages * PKV_SUMMARY_128_HEAD_PAGE_BYTES);
  const double bytes_a_key = static_cast<double>(before - free_device_bytes()) / static_cast<double>(keys);
  constexpr uint64_t kHostReadBytes = uint64_t{256} << 20;
  const Buffer host = side.allocate(kHostReadBytes, PKV_MEMORY_MAPPED);
  const Owned<pkv_tape> nothing = side.record([&] { copy(side, again, again, 64, 64); });
  const Spread empty = time_tape(side, nothing, 51, [] {});
  std::printf("{\"detail\": \"%s\", \"runs\": %d, \"poolBytes\": %llu, \"summaryBytesAKey\": %.3f, "
              "\"deviceReadGigabytesPerSecond\": %.0f, \"mappedReadGigabytesPerSecond\": %.1f, "
              "\"emptyTapeUs\": %.2f}\n",
              side.detail(), runs, static_cast<unsigned long long>(keys * kRecordBytes), bytes_a_key,
              read_gigabytes_a_second(pools.summaries, pools.head_pages * PKV_SUMMARY_128_HEAD_PAGE_BYTES),
              read_gigabytes_a_second(host, kHostReadBytes), empty.median * 1e6);
  std::fflush(stdout);
}

bool is_wished(int argc, char** argv, Length length) {
  const std::string name = std::to_string(length.kilo_tokens) + "x" + std::to_string(length.batch);
  bool any = false;
  for (int i = 1; i < argc; ++i) {
    if (argv[i] == name) return true;
    any = any || (std::isdigit(argv[i][0]) && std::strchr(argv[i], 'x') != nullptr);
  }
  return !any;
}

}  // namespace

int main(int argc, char** argv) try {
  const Side side(device_of(argc, argv));
  const int runs = static_cast<int>(flag(argc, argv, "--runs", 11));
  const Pools pools(side, static_cast<uint64_t>(flag(argc, argv, "--pool-mib", 16384)) << 20);
  print_machine(side, pools, runs);
  for (const Length& length : kLengths) {
    if (is_wished(argc, argv, length)) bench_length(side, pools, length, runs);
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "cuda_stages: %s\n", error.what());
  return 1;
}
