// What the hot set is worth: attention of one decode step over sink, ring and K selected keys of 128K tokens, 32 query heads,
// 8 KV heads, head_dim 128, bf16, at K = 100, 1024 and 2048. Records on the device, in mapped host memory without a hot set,
// and with one of at least 4 K lines, as far as it goes: where every step wants new keys, and where it wants nine tenths of
// those of the step before.
//
// A graph runs the layers in turn, whose records together fill the pool, pages in shuffled order; times are of CUDA events
// around one launch of the graph, divided by its layers. Prints a JSON a line, one a case. Arguments: --pool-gib N
// (default 16), --runs N (default 9).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cuda/host_arena.h"
#include "cuda/launch.h"

using namespace pkv;
using cuda::check;

namespace {

constexpr uint32_t kKvHeads = 8, kQueryGroup = 4, kHeadDim = 128, kQueryFloats = kKvHeads * kQueryGroup * kHeadDim;
constexpr uint32_t kSinkTokens = 64, kRingTokens = 1024, kLocalTokens = 768, kZoneTokens = 128 << 10;
constexpr size_t kSlabPages = 16;  // as the memory manager takes them
static_assert(kZoneTokens / PKV_PAGE_TOKENS % kSlabPages == 0, "whole slabs");
constexpr int kWarmUps = 2;

// Mapped host memory as a context takes it, filled by all cores.
class HostPool {
 public:
  HostPool(size_t bytes, const std::vector<uint8_t>& pattern) : bytes_(bytes), piece_(cuda::HostArena().allocate(bytes)) {
    if (piece_.memory == nullptr) throw device_failed("cuda", "no " + std::to_string(bytes) + " bytes of host memory");
    const size_t workers = std::max(1u, std::thread::hardware_concurrency());
    const size_t each = (bytes + workers - 1) / workers;
    std::vector<std::thread> threads;
    for (size_t begin = 0; begin < bytes; begin += each) {
      threads.emplace_back([&, begin, end = std::min(bytes, begin + each)] {
        for (size_t at = begin; at < end; at += pattern.size()) {
          std::memcpy(data() + at, pattern.data(), std::min(pattern.size(), end - at));
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  ~HostPool() { cuda::HostArena::free(piece_); }
  HostPool(const HostPool&) = delete;
  uint8_t* data() const { return piece_.memory; }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_;
  cuda::HostArena::Piece piece_;
};

// Device memory of the whole program.
class DevicePool {
 public:
  ~DevicePool() {
    for (void* const memory : taken_) cudaFree(memory);
  }
  template <class T>
  T* zeros(size_t count) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, std::max<size_t>(count, 1) * sizeof(T)), "cudaMalloc");
    taken_.push_back(memory);
    check(cudaMemset(memory, 0, count * sizeof(T)), "cudaMemset");
    return static_cast<T*>(memory);
  }
  template <class T>
  T* upload(const std::vector<T>& values) {
    T* const memory = zeros<T>(values.size());
    check(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyDefault), "cudaMemcpy");
    return memory;
  }

 private:
  std::list<void*> taken_;
};

struct Random {
  std::mt19937_64 engine{1};
  float normal() {
    const auto uniform = [&] { return static_cast<float>(engine() >> 40) * 0x1p-24f; };
    return std::sqrt(-2 * std::log(1 - uniform())) * std::cos(6.2831853f * uniform());
  }
};

std::vector<uint8_t> record_pattern(Random& random) {
  std::vector<uint8_t> pattern(size_t{6} << 20);
  for (size_t i = 0; i < pattern.size(); i += 2) {
    const float value = random.normal();
    std::memcpy(&pattern[i], reinterpret_cast<const uint8_t*>(&value) + 2, 2);  // bf16, towards zero
  }
  return pattern;
}

// The keys of `steps` steps, [steps, layers, kv_heads, top_k] ascending: `repeated` tenths of each are of the step before.
std::vector<uint32_t> draw_keys(Random& random, uint32_t steps, uint32_t layers, uint32_t top_k, uint32_t repeated) {
  std::vector<uint32_t> keys(size_t{steps} * layers * kKvHeads * top_k);
  const size_t step_keys = keys.size() / steps;
  std::vector<bool> taken(kZoneTokens);
  for (size_t at = 0; at < keys.size(); at += top_k) {
    uint32_t* const own = &keys[at];
    uint32_t count = 0;
    const auto take = [&](uint32_t key) {
      if (taken[key]) return;
      taken[key] = true;
      own[count++] = key;
    };
    for (uint32_t i = 0; at >= step_keys && i < top_k; ++i) {
      if (random.engine() % 10 < repeated) take(own[static_cast<ptrdiff_t>(i) - static_cast<ptrdiff_t>(step_keys)]);
    }
    while (count < top_k) take(static_cast<uint32_t>(random.engine() % kZoneTokens));
    std::sort(own, own + top_k);
    for (uint32_t i = 0; i < top_k; ++i) taken[own[i]] = false;
  }
  return keys;
}

struct Case {
  const char* name;
  bool on_device, has_hot_set;
  uint32_t repeated;  // tenths
};

class Bench {
 public:
  Bench(int runs, uint32_t layers, const uint8_t* device_pool, const HostPool& host_pool, const std::vector<uint8_t>& pattern)
      : runs_(runs), layers_(layers), device_pool_(device_pool), host_pool_(host_pool) {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
    check(cudaStreamCreateWithFlags(&runtime_.stream, cudaStreamNonBlocking), "cudaStreamCreate");
    check(cudaEventCreate(&start_), "cudaEventCreate");
    check(cudaEventCreate(&stop_), "cudaEventCreate");
    runtime_.multiprocessors = static_cast<uint32_t>(properties.multiProcessorCount);
    runtime_.compute_capability = static_cast<uint32_t>(10 * properties.major + properties.minor);
    runtime_.shared_bytes = properties.sharedMemPerBlockOptin;
    std::vector<uint8_t> window;
    const size_t window_bytes = size_t{layers} * kKvHeads * (kSinkTokens + kRingTokens) * 4 * kHeadDim;
    while (window.size() < window_bytes) window.insert(window.end(), pattern.begin(), pattern.end());
    window_ = memory_.upload(window);
    pages_.resize(kZoneTokens / PKV_PAGE_TOKENS);
    std::iota(pages_.begin(), pages_.end(), 0u);
    std::shuffle(pages_.begin(), pages_.end(), random_.engine);
    std::vector<float> queries(size_t{layers} * kQueryFloats);
    for (float& x : queries) x = random_.normal();
    queries_ = memory_.upload(queries);
  }
  ~Bench() {
    cudaEventDestroy(start_);
    cudaEventDestroy(stop_);
    cudaStreamDestroy(runtime_.stream);
  }

  void run(uint32_t top_k, const Case& c) {
    DevicePool memory;
    const Cache cache = cache_of(memory, top_k, c);
    std::vector<Plan> plans = plans_of(memory, cache, top_k);
    const uint32_t steps = static_cast<uint32_t>(runs_ + kWarmUps);
    const size_t step_keys = size_t{layers_} * kKvHeads * top_k;
    const uint32_t* const keys = memory.upload(draw_keys(random_, steps, layers_, top_k, c.repeated));
    const int32_t row[] = {0, static_cast<int32_t>(kSinkTokens + kZoneTokens + kLocalTokens - 1)};
    const Step step{memory.upload(std::vector<int32_t>(row, row + 2)), 1};
    float* const out = memory.zeros<float>(kQueryFloats);

    cudaGraph_t graph;
    cudaGraphExec_t program;
    check(cudaStreamBeginCapture(runtime_.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    for (uint32_t layer = 0; layer < layers_; ++layer) {
      const Rows q{queries_ + size_t{layer} * kQueryFloats, kQueryFloats};
      cuda::attend(runtime_, {&plans[layer], layer, step, q, {out, kQueryFloats}});
    }
    check(cudaStreamEndCapture(runtime_.stream, &graph), "cudaStreamEndCapture");
    check(cudaGraphInstantiate(&program, graph, 0), "cudaGraphInstantiate");
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");  // what was written on the default stream
    std::vector<double> times;
    std::vector<int32_t> hits(size_t{layers_} * kKvHeads);
    double all_hits = 0;
    for (uint32_t number = 0; number < steps; ++number) {
      const uint32_t* const now = keys + number * step_keys;
      check(cudaMemcpyAsync(plans[0].selected, now, step_keys * 4, cudaMemcpyDeviceToDevice, runtime_.stream), "keys");
      check(cudaEventRecord(start_, runtime_.stream), "cudaEventRecord");
      check(cudaGraphLaunch(program, runtime_.stream), "cudaGraphLaunch");
      check(cudaEventRecord(stop_, runtime_.stream), "cudaEventRecord");
      check(cudaStreamSynchronize(runtime_.stream), "cudaStreamSynchronize");
      if (number < kWarmUps) continue;
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, start_, stop_), "cudaEventElapsedTime");
      times.push_back(milliseconds * 1e3 / layers_);
      check(cudaMemcpy(hits.data(), plans[0].hot_hits, hits.size() * 4, cudaMemcpyDefault), "hits");
      all_hits += std::accumulate(hits.begin(), hits.end(), 0.0);
    }
    check(cudaGraphExecDestroy(program), "cudaGraphExecDestroy");
    check(cudaGraphDestroy(graph), "cudaGraphDestroy");
    std::sort(times.begin(), times.end());
    std::printf("{\"records\": \"%s\", \"topK\": %u, \"repeatedShare\": %.1f, \"hotLines\": %u, \"hotBytes\": %.0f, "
                "\"hitRate\": %.4f, \"medianUs\": %.2f, \"leastUs\": %.2f, \"mostUs\": %.2f}\n",
                c.name, top_k, c.repeated / 10.0, cache.hot_lines,
                static_cast<double>(cache.hot_lines) * layers_ * kKvHeads * (static_cast<double>(cache.record_bytes()) + 4),
                all_hits / (static_cast<double>(step_keys) * runs_), times[times.size() / 2], times.front(), times.back());
    std::fflush(stdout);
  }

 private:
  Cache cache_of(DevicePool& memory, uint32_t top_k, const Case& c) const {
    Cache cache{};
    cache.layers = layers_;
    cache.kv_heads = kKvHeads;
    cache.query_group = kQueryGroup;
    cache.head_dim = kHeadDim;
    cache.kv_dtype = Dtype::bf16;
    cache.slots = 1;
    cache.sink_tokens = kSinkTokens;
    cache.ring_tokens = kRingTokens;
    cache.max_pages = cache.page_capacity = static_cast<uint32_t>(pages_.size());
    cache.zone_tokens = memory.upload(std::vector<int32_t>{static_cast<int32_t>(kZoneTokens)});
    cache.page_table = memory.upload(pages_);
    std::vector<uint64_t> addresses;
    const size_t layer_bytes = kKvHeads * cache.head_page_record_bytes();  // of a page
    for (size_t page = 0; page < pages_.size(); ++page) {
      const uint8_t* const pool = c.on_device ? device_pool_ : host_pool_.data();
      const size_t in_slab = page % kSlabPages, slab_begin = (page - in_slab) * layers_ * layer_bytes;
      addresses.push_back(0);
      addresses.push_back(reinterpret_cast<uint64_t>(pool + slab_begin + in_slab * layer_bytes));
      addresses.push_back(kSlabPages * layer_bytes);
    }
    cache.page_address = memory.upload(addresses);
    cache.window = window_;
    std::vector<int32_t> budget(layers_ * PKV_BUDGET_FIELDS);
    for (size_t at = PKV_BUDGET_MODE; at < budget.size(); at += PKV_BUDGET_FIELDS) budget[at] = PKV_MODE_VOTE;
    cache.budget = memory.upload(budget);
    if (!c.has_hot_set) return cache;
    for (cache.hot_lines = 4; cache.hot_lines < 4 * top_k && cache.hot_lines < PKV_MOST_HOT_LINES;) cache.hot_lines *= 2;
    const size_t lines = size_t{layers_} * kKvHeads * cache.hot_lines;
    cache.hot_tags = memory.zeros<uint32_t>(lines);
    cache.hot_records = memory.zeros<uint8_t>(lines * cache.record_bytes());
    return cache;
  }

  // One a layer: each has keys and hits of its own.
  std::vector<Plan> plans_of(DevicePool& memory, const Cache& cache, uint32_t top_k) const {
    Plan plan{};
    plan.cache = &cache;
    plan.max_rows = 1;
    plan.max_zone_tokens = kZoneTokens;
    plan.max_candidates = plan.max_top_k = top_k;
    plan.rotated_queries = plan.tables = 1;
    const size_t entries = size_t{layers_} * kKvHeads;
    plan.selected = memory.zeros<uint32_t>(entries * top_k);
    plan.selected_count = memory.upload(std::vector<int32_t>(entries, static_cast<int32_t>(top_k)));
    plan.stats = memory.zeros<float>(entries * kQueryGroup * PKV_STATS_FIELDS);
    plan.hot_hits = memory.zeros<int32_t>(entries);
    plan.scratch_bytes = cuda::plan_scratch_bytes(plan);
    plan.scratch = memory.zeros<uint8_t>(plan.scratch_bytes);
    std::vector<Plan> plans;
    for (uint32_t layer = 0; layer < layers_; ++layer) {
      plans.push_back(plan);
      plan.selected += kKvHeads * top_k;
      plan.selected_count += kKvHeads;
      plan.stats += kKvHeads * kQueryGroup * PKV_STATS_FIELDS;
      plan.hot_hits += kKvHeads;
    }
    return plans;
  }

  int runs_;
  uint32_t layers_;
  const uint8_t* device_pool_;
  const HostPool& host_pool_;
  cuda::Runtime runtime_{};
  cudaEvent_t start_{}, stop_{};
  Random random_;
  DevicePool memory_;
  uint8_t* window_ = nullptr;
  float* queries_ = nullptr;
  std::vector<uint32_t> pages_;
};

}  // namespace

int main(int argc, char** argv) try {
  size_t pool_gib = 16;
  int runs = 9;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string argument = argv[i];
    if (argument == "--pool-gib") pool_gib = std::strtoul(argv[i + 1], nullptr, 10);
    if (argument == "--runs") runs = std::max(1, std::atoi(argv[i + 1]));
  }
  constexpr size_t kLayerBytes = size_t{kZoneTokens} * kKvHeads * 4 * kHeadDim;
  const auto layers = static_cast<uint32_t>(std::clamp<size_t>((pool_gib << 30) / kLayerBytes, 1, 32));
  Random random;
  const std::vector<uint8_t> pattern = record_pattern(random);
  const HostPool host_pool(layers * kLayerBytes, pattern);
  DevicePool memory;
  uint8_t* const device_pool = memory.zeros<uint8_t>(host_pool.bytes());
  check(cudaMemcpy(device_pool, host_pool.data(), host_pool.bytes(), cudaMemcpyDefault), "filling the pool");
  Bench bench(runs, layers, device_pool, host_pool, pattern);
  for (const uint32_t top_k : {100u, 1024u, 2048u}) {
    for (const Case& c : {Case{"device", true, false, 9}, Case{"mapped", false, false, 9}, Case{"mapped", false, true, 0},
                          Case{"mapped", false, true, 9}}) {
      bench.run(top_k, c);
    }
  }
  return 0;
} catch (const Error& error) {
  std::fprintf(stderr, "cuda_hot_set: %s\n", error.what());
  return 1;
}
