// Times of one decode step of one attention layer on a GPU: 32 query heads, 8 KV heads, head_dim 128, bf16, batch 1, at 32K,
// 128K, 512K and 1M tokens, K = 100, 1024 and 2048, graded votes; each stage, the whole, and dense attention. Records lie on
// the device, then in mapped host memory. Prints a JSON.
//
// As a real sequence has it: a graph runs the layers in turn, whose records together fill 16 GiB, its pages in shuffled
// order, and every run has new queries. Times are of CUDA events around one launch of the graph, divided by its layers.
// Arguments: contexts in units of 1024 tokens (default 32 128 512 1024); --pool-gib N (default 16); --runs N (default 15).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <list>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cuda/launch.h"

using namespace pkv;
using cuda::check;

namespace {

constexpr uint32_t kKvHeads = 8, kQueryGroup = 4, kHeadDim = 128, kQueryHeads = kKvHeads * kQueryGroup;
constexpr uint32_t kSinkTokens = 64, kRingTokens = 1024, kLocalTokens = 768;
constexpr uint32_t kMaxTopK = 2048;
constexpr uint32_t kQuerySets = 8;
constexpr size_t kPatternBytes = size_t{24} << 20;

struct Options {
  std::vector<uint32_t> contexts;  // in units of 1024 tokens
  size_t pool_gib = 16;
  int runs = 15;
};

Options options_of(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--pool-gib" && i + 1 < argc) {
      options.pool_gib = std::strtoul(argv[++i], nullptr, 10);
    } else if (argument == "--runs" && i + 1 < argc) {
      options.runs = std::atoi(argv[++i]);
    } else {
      options.contexts.push_back(static_cast<uint32_t>(std::strtoul(argv[i], nullptr, 10)));
    }
  }
  if (options.contexts.empty()) options.contexts = {32, 128, 512, 1024};
  return options;
}

class Memory {
 public:
  enum class Kind { device, mapped };
  Memory(size_t bytes, Kind kind) : bytes_(bytes), kind_(kind) {
    if (kind == Kind::device) {
      check(cudaMalloc(&data_, bytes), "cudaMalloc");
      check(cudaMemset(data_, 0, bytes), "cudaMemset");
    } else {
      check(cudaHostAlloc(&data_, bytes, cudaHostAllocMapped | cudaHostAllocPortable), "cudaHostAlloc");
    }
  }
  Memory(Memory&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_), kind_(other.kind_) {}
  Memory(const Memory&) = delete;
  ~Memory() {
    if (data_ == nullptr) return;
    if (kind_ == Kind::device) {
      cudaFree(data_);
    } else {
      cudaFreeHost(data_);
    }
  }
  uint8_t* data() const { return static_cast<uint8_t*>(data_); }
  size_t bytes() const { return bytes_; }

  void write(const void* source, size_t bytes) { check(cudaMemcpy(data_, source, bytes, cudaMemcpyDefault), "cudaMemcpy"); }
  // Repeats a pattern over all of it.
  void fill(const std::vector<uint8_t>& pattern) {
    for (size_t at = 0; at < bytes_; at += pattern.size()) {
      check(cudaMemcpy(data() + at, pattern.data(), std::min(pattern.size(), bytes_ - at), cudaMemcpyDefault), "cudaMemcpy");
    }
  }

 private:
  void* data_ = nullptr;
  size_t bytes_;
  Kind kind_;
};

struct Spread { double median, least, most; };

class Gpu {
 public:
  Gpu() {
    check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
    check(cudaStreamCreateWithFlags(&runtime.stream, cudaStreamNonBlocking), "cudaStreamCreate");
    check(cudaEventCreate(&start_), "cudaEventCreate");
    check(cudaEventCreate(&stop_), "cudaEventCreate");
    runtime.multiprocessors = static_cast<uint32_t>(properties.multiProcessorCount);
    runtime.compute_capability = static_cast<uint32_t>(10 * properties.major + properties.minor);
    runtime.shared_bytes = properties.sharedMemPerBlockOptin;
  }
  ~Gpu() {
    cudaEventDestroy(start_);
    cudaEventDestroy(stop_);
    cudaStreamDestroy(runtime.stream);
  }

  // Microseconds of one launch of a graph of what `body` queues; `before` is queued before each run, outside the time.
  Spread time(int runs, const std::function<void()>& before, const std::function<void()>& body) {
    cudaGraph_t graph;
    cudaGraphExec_t program;
    check(cudaStreamBeginCapture(runtime.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    body();
    check(cudaStreamEndCapture(runtime.stream, &graph), "cudaStreamEndCapture");
    check(cudaGraphInstantiate(&program, graph, 0), "cudaGraphInstantiate");
    check(cudaGraphUpload(program, runtime.stream), "cudaGraphUpload");
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");  // what was written and zeroed on the default stream
    std::vector<double> times;
    for (int run = -2; run < runs; ++run) {  // two to warm up
      before();
      check(cudaEventRecord(start_, runtime.stream), "cudaEventRecord");
      check(cudaGraphLaunch(program, runtime.stream), "cudaGraphLaunch");
      check(cudaEventRecord(stop_, runtime.stream), "cudaEventRecord");
      check(cudaStreamSynchronize(runtime.stream), "cudaStreamSynchronize");
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, start_, stop_), "cudaEventElapsedTime");
      if (run >= 0) times.push_back(milliseconds * 1e3);
    }
    check(cudaGraphExecDestroy(program), "cudaGraphExecDestroy");
    check(cudaGraphDestroy(graph), "cudaGraphDestroy");
    std::sort(times.begin(), times.end());
    return {times[times.size() / 2], times.front(), times.back()};
  }

  cuda::Runtime runtime{};
  cudaDeviceProp properties{};

 private:
  cudaEvent_t start_{}, stop_{};
};

struct Random {
  std::mt19937_64 engine{1};
  float uniform() { return static_cast<float>(engine() >> 40) * 0x1p-24f; }
  float normal() { return std::sqrt(-2 * std::log(1 - uniform())) * std::cos(6.2831853f * uniform()); }
};

uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Patterns as long as some dozens of megabytes: drawing the whole pool would take longer than the bench.
std::vector<uint8_t> record_pattern(Random& random) {
  std::vector<uint8_t> pattern(kPatternBytes);
  for (size_t i = 0; i < kPatternBytes; i += 2) {
    const uint16_t value = to_bf16(random.normal());
    std::memcpy(&pattern[i], &value, 2);
  }
  return pattern;
}

// Summaries of whole (page, KV head)s: random ids and codes, weights around 1.
std::vector<uint8_t> summary_pattern(Random& random, const Cache& cache) {
  const size_t head_bytes = cache.head_page_summary_bytes();
  std::vector<uint8_t> pattern(kPatternBytes / head_bytes * head_bytes);
  for (size_t i = 0; i < pattern.size(); i += 8) {
    const uint64_t bytes = random.engine();
    std::memcpy(&pattern[i], &bytes, 8);
  }
  for (size_t at = 0; at < pattern.size(); at += head_bytes) {
    uint8_t* const weights = cache.weights_of(&pattern[at]);
    for (size_t i = 0; i < size_t{PKV_PAGE_TOKENS} * cache.subspaces(); ++i) weights[i] = 120 + weights[i] % 16;
  }
  return pattern;
}

// One sequence in a cache of as many layers as fill the pool.
struct Scene {
  Scene(const Gpu& gpu, uint32_t tokens, const Memory& pool, const std::vector<uint8_t>& records, Random& random)
      : gpu_(gpu), zone_tokens_(tokens) {
    cache.kv_heads = kKvHeads;
    cache.query_group = kQueryGroup;
    cache.head_dim = kHeadDim;
    cache.kv_dtype = Dtype::bf16;
    cache.slots = 1;
    cache.sink_tokens = kSinkTokens;
    cache.ring_tokens = kRingTokens;
    cache.max_pages = cache.page_capacity = tokens / PKV_PAGE_TOKENS;
    const size_t layer_bytes = size_t{tokens} * kKvHeads * cache.record_bytes();
    cache.layers = static_cast<uint32_t>(std::clamp<size_t>(pool.bytes() / layer_bytes, 1, 32));

    cache.zone_tokens = upload(std::vector<int32_t>{static_cast<int32_t>(tokens)});
    std::vector<uint32_t> pages(cache.max_pages);
    std::iota(pages.begin(), pages.end(), 0u);
    std::shuffle(pages.begin(), pages.end(), random.engine);
    cache.page_table = upload(pages);
    const size_t heads = size_t{cache.layers} * kKvHeads;
    summaries_ = &take(cache.page_capacity * heads * cache.head_page_summary_bytes());
    summaries_->fill(summary_pattern(random, cache));
    place_records(pool);
    Memory& window = take(heads * cache.window_tokens() * cache.record_bytes());
    window.fill(records);
    cache.window = window.data();
    cache.invalid_keys = upload(std::vector<uint32_t>(heads, 0));
    budget_ = &take(cache.layers * PKV_BUDGET_FIELDS * sizeof(int32_t));
    cache.budget = reinterpret_cast<const int32_t*>(budget_->data());
    std::vector<float> calibration(heads * 2 * kHeadDim, 1.0f);
    for (size_t i = 0; i < calibration.size(); ++i) calibration[i] = i / kHeadDim % 2 == 0 ? 0.1f * random.normal() : 1.0f;
    cache.calibration = upload(calibration);
    for (float& sign : signs_) sign = random.engine() & 1 ? 1.0f : -1.0f;
    cache.signs = signs_;
    cache.centres = centres_;
    cache.thresholds = thresholds_;

    const int32_t row[] = {0, static_cast<int32_t>(kSinkTokens + tokens + kLocalTokens - 1)};
    step = {upload(std::vector<int32_t>(row, row + 2)), 1};
    std::vector<float> queries(size_t{kQuerySets} * query_floats());
    for (float& x : queries) x = random.normal();
    query_sets_ = upload(queries);
    q = upload(std::vector<float>(query_floats(), 0.0f));
    out = upload(std::vector<float>(kQueryHeads * kHeadDim, 0.0f));
  }

  void place_records(const Memory& pool) {
    const size_t summary_bytes = size_t{cache.layers} * kKvHeads * cache.head_page_summary_bytes();
    const size_t record_bytes = size_t{cache.layers} * kKvHeads * cache.head_page_record_bytes();
    std::vector<uint64_t> addresses;
    for (uint32_t page = 0; page < cache.page_capacity; ++page) {
      addresses.push_back(reinterpret_cast<uint64_t>(summaries_->data() + page * summary_bytes));
      addresses.push_back(reinterpret_cast<uint64_t>(pool.data() + page * record_bytes));
    }
    cache.page_address = upload(addresses);
  }

  void plan_for(Group group, uint32_t candidates) {
    plan = Plan{};
    plan.cache = &cache;
    plan.max_rows = 1;
    plan.max_zone_tokens = zone_tokens_;
    plan.max_candidates = candidates;
    plan.max_top_k = kMaxTopK;
    plan.votes = Votes::graded;
    plan.group = group;
    plan.rotated_queries = group == Group::mean ? 1 : kQueryGroup;
    plan.tables = group == Group::max ? kQueryGroup : 1;
    workspaces_.clear();
    plan.rotated = workspace<float>(size_t{kKvHeads} * plan.rotated_queries * kHeadDim);
    plan.vote_tables = workspace<uint8_t>(size_t{kKvHeads} * plan.tables * cache.subspaces() * PKV_CENTROIDS);
    plan.scores = workspace<uint16_t>(size_t{kKvHeads} * plan.max_zone_tokens);
    plan.candidates = workspace<uint32_t>(size_t{kKvHeads} * plan.max_candidates);
    plan.candidate_count = workspace<int32_t>(kKvHeads);
    plan.estimates = workspace<float>(size_t{kKvHeads} * plan.rotated_queries * plan.max_candidates);
    plan.priorities = workspace<float>(size_t{kKvHeads} * plan.max_candidates);
    plan.selected = workspace<uint32_t>(size_t{kKvHeads} * plan.max_top_k);
    plan.selected_count = workspace<int32_t>(kKvHeads);
    plan.stats = workspace<float>(kQueryHeads * PKV_STATS_FIELDS);
    plan.scratch_bytes = cuda::plan_scratch_bytes(plan);
    plan.scratch = workspace<uint8_t>(plan.scratch_bytes);
  }

  void set_budget(int32_t mode, uint32_t candidates, uint32_t top_k) {
    std::vector<int32_t> budget(cache.layers * PKV_BUDGET_FIELDS);
    for (uint32_t layer = 0; layer < cache.layers; ++layer) {
      int32_t* const entry = &budget[layer * PKV_BUDGET_FIELDS];
      entry[PKV_BUDGET_MODE] = mode;
      entry[PKV_BUDGET_CANDIDATES] = static_cast<int32_t>(candidates);
      entry[PKV_BUDGET_TOP_K] = static_cast<int32_t>(top_k);
    }
    budget_->write(budget.data(), budget.size() * sizeof(int32_t));
  }

  size_t query_floats() const { return size_t{cache.layers} * kQueryHeads * kHeadDim; }
  Rows queries_of(uint32_t layer) const { return {q + size_t{layer} * kQueryHeads * kHeadDim, kQueryHeads * kHeadDim}; }

  void next_queries() {
    const float* const from = query_sets_ + query_set_++ % kQuerySets * query_floats();
    check(cudaMemcpyAsync(q, from, query_floats() * sizeof(float), cudaMemcpyDeviceToDevice, gpu_.runtime.stream), "queries");
  }

  void run(const char* stage, uint32_t layer) {
    cuda::Runtime runtime = gpu_.runtime;
    const StageParams params{&plan, layer, step};
    const auto is = [&](const char* name) { return std::strcmp(stage, name) == 0; };
    const bool all = is("whole");
    if (all || is("probe")) cuda::probe(runtime, {&plan, layer, step, queries_of(layer)});
    if (all || is("collide")) cuda::collide(runtime, params);
    if (all || is("select")) cuda::select(runtime, params);
    if (all || is("rerank")) cuda::rerank(runtime, params);
    if (all || is("attend")) {
      cuda::attend(runtime, {&plan, layer, step, queries_of(layer), {out, kQueryHeads * kHeadDim}});
    }
  }

  Cache cache{};
  Plan plan{};
  Step step{};
  float *q = nullptr, *out = nullptr;

 private:
  Memory& take(size_t bytes) { return memory_.emplace_back(std::max<size_t>(bytes, 1), Memory::Kind::device); }
  template <class T>
  T* upload(const std::vector<T>& values) {
    Memory& memory = take(values.size() * sizeof(T));
    memory.write(values.data(), values.size() * sizeof(T));
    return reinterpret_cast<T*>(memory.data());
  }
  template <class T>
  T* workspace(size_t count) {
    return reinterpret_cast<T*>(workspaces_.emplace_back(std::max<size_t>(count * sizeof(T), 1), Memory::Kind::device).data());
  }

  const Gpu& gpu_;
  uint32_t zone_tokens_;
  std::list<Memory> memory_, workspaces_;
  Memory *summaries_ = nullptr, *budget_ = nullptr;
  float* query_sets_ = nullptr;
  uint32_t query_set_ = 0;
  float signs_[kHeadDim];
  float centres_[PKV_MAGNITUDE_LEVELS] = {0.0425f, 0.1280f, 0.2152f, 0.3053f, 0.4003f, 0.5030f, 0.6193f, 0.7648f};
  float thresholds_[PKV_MAGNITUDE_LEVELS - 1] = {0.0853f, 0.1716f, 0.2603f, 0.3528f, 0.4516f, 0.5612f, 0.6921f};
};

// Read plus write, of 2 GiB.
double copy_gigabytes_a_second(Gpu& gpu) {
  const size_t bytes = size_t{1} << 30;
  const Memory from(bytes, Memory::Kind::device), to(bytes, Memory::Kind::device);
  const Spread spread = gpu.time(5, [] {}, [&] {
    check(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, gpu.runtime.stream), "copy");
  });
  return 2.0 * static_cast<double>(bytes) / spread.median * 1e-3;
}

bool first_case = true;

void print_case(const Scene& scene, uint32_t context, const char* records, const char* stage, const char* group, double share,
                uint32_t top_k, Spread spread, double bytes) {
  const double layers = scene.cache.layers;
  const double median = spread.median / layers;
  std::printf("%s\n    {\"contextTokens\": %u, \"layers\": %u, \"records\": \"%s\", \"stage\": \"%s\", \"group\": \"%s\", "
              "\"candidateShare\": %.2f, \"topK\": %u, \"medianUs\": %.2f, \"leastUs\": %.2f, \"mostUs\": %.2f, "
              "\"leastBytes\": %.0f, \"gigabytesPerSecond\": %.0f}",
              first_case ? "" : ",", context, scene.cache.layers, records, stage, group, share, top_k, median,
              spread.least / layers, spread.most / layers, bytes, bytes / median * 1e-3);
  std::fflush(stdout);
  first_case = false;
}

// The bytes that a stage cannot do without, for one layer.
double least_bytes(const Scene& scene, const std::string& stage, double candidates, double top_k) {
  const double tokens = scene.plan.max_zone_tokens, subspaces = scene.cache.subspaces();
  const double window = kSinkTokens + kLocalTokens, record = static_cast<double>(scene.cache.record_bytes());
  const double collide = tokens * (subspaces + 2), select = tokens * 2;
  const double rerank = candidates * (kHeadDim / 2 + subspaces), attend = (window + top_k) * record;
  const double all = collide + select + rerank + attend;
  return kKvHeads * (stage == "collide" ? collide
                     : stage == "select" ? select
                     : stage == "rerank" ? rerank
                     : stage == "attend" ? attend
                     : stage == "whole"  ? all
                                         : 0);
}

void bench_context(Gpu& gpu, const Options& options, uint32_t context, const Memory& device_pool, const Memory& host_pool,
                   const std::vector<uint8_t>& pattern, Random& random) {
  Scene scene(gpu, context, device_pool, pattern, random);
  const auto time = [&](const char* stage) {
    return gpu.time(options.runs, [&] { scene.next_queries(); }, [&] {
      for (uint32_t layer = 0; layer < scene.cache.layers; ++layer) scene.run(stage, layer);
    });
  };
  for (const bool on_device : {true, false}) {
    const char* const records = on_device ? "device" : "mapped";
    scene.place_records(on_device ? device_pool : host_pool);
    for (const Group group : {Group::mean, Group::max}) {
      const char* const group_name = group == Group::mean ? "mean" : "max";
      for (const double share : {0.10, 0.02}) {
        const auto candidates = static_cast<uint32_t>(std::ceil(share * context));
        scene.plan_for(group, candidates);
        for (const uint32_t top_k : {100u, 1024u, 2048u}) {
          scene.set_budget(PKV_MODE_VOTE, candidates, top_k);
          const auto print = [&](const char* stage) {
            const Spread spread = time(stage);
            print_case(scene, context, records, stage, group_name, share, top_k, spread,
                       least_bytes(scene, stage, candidates, std::min(top_k, candidates)));
          };
          print("whole");
          if (on_device && top_k == 100) {  // what comes before attend knows nothing of records
            for (const char* stage : {"probe", "collide", "select", "rerank"}) print(stage);
          }
          print("attend");
        }
      }
    }
    if (!on_device) continue;
    scene.set_budget(PKV_MODE_DENSE, 0, 0);
    print_case(scene, context, records, "dense", "max", 1, 0, time("attend"),
               static_cast<double>(kSinkTokens + context + kLocalTokens) * kKvHeads *
                   static_cast<double>(scene.cache.record_bytes()));
  }
}

}  // namespace

int main(int argc, char** argv) try {
  const Options options = options_of(argc, argv);
  Gpu gpu;
  Random random;
  const std::vector<uint8_t> pattern = record_pattern(random);
  const double copy = copy_gigabytes_a_second(gpu);
  Memory device_pool(options.pool_gib << 30, Memory::Kind::device), host_pool(options.pool_gib << 30, Memory::Kind::mapped);
  device_pool.fill(pattern);
  check(cudaMemcpy(host_pool.data(), device_pool.data(), host_pool.bytes(), cudaMemcpyDefault), "filling the pool");
  int driver = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  std::printf("{\n  \"gpu\": \"%s\", \"multiprocessors\": %d, \"cudaDriver\": %d, \"poolGib\": %zu, \"runs\": %d,\n"
              "  \"copyGigabytesPerSecond\": %.0f,\n  \"cases\": [",
              gpu.properties.name, gpu.properties.multiProcessorCount, driver, options.pool_gib, options.runs, copy);
  for (const uint32_t context : options.contexts) {
    bench_context(gpu, options, context * 1024, device_pool, host_pool, pattern, random);
  }
  std::printf("\n  ]\n}\n");
  return 0;
} catch (const Error& error) {
  std::fprintf(stderr, "cuda_stages: %s\n", error.what());
  return 1;
}
