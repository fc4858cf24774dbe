// A cache and a plan with random contents, as the retrieval stages see them, for benches and checks that need no Node.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "cpu/cpu.h"

namespace pkv::bench {

struct SceneParams {
  uint32_t kv_heads = 8, query_group = 4, head_dim = 128;
  Dtype kv_dtype = Dtype::bf16;
  uint32_t sink_tokens = 64, ring_tokens = 1024, max_candidates = 16384, max_top_k = 1024;
  Group group = Group::max;
  int32_t mode = PKV_MODE_VOTE, candidates = 2048, top_k = 100;
  std::vector<uint32_t> zone_tokens = {16384};  // by slot
  std::vector<uint32_t> local_tokens = {512};   // by slot: tokens in the ring, at least 1
  uint64_t seed = 1;
};

inline uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Half precision by truncation, for values of ordinary size: the bench compares with what is stored, not with `x`.
inline uint16_t to_f16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const int32_t exponent = static_cast<int32_t>(bits >> 23 & 255) - 127 + 15;
  const uint32_t sign = bits >> 16 & 0x8000;
  if (exponent <= 0) return static_cast<uint16_t>(sign);
  if (exponent >= 31) return static_cast<uint16_t>(sign | 0x7c00);
  return static_cast<uint16_t>(sign | static_cast<uint32_t>(exponent) << 10 | (bits >> 13 & 0x3ff));
}

// One layer; every slot has its own pages, in shuffled order.
struct Scene {
  SceneParams params;
  Cache cache{};
  Plan plan{};
  std::vector<int32_t> rows;  // [slots, 2]
  std::vector<float> q, out;  // [slots, query_heads, head_dim]
  const uint8_t* page_records = nullptr;
  size_t page_records_bytes = 0;
  std::mt19937_64 random;

  Scene(const SceneParams& p, unsigned threads) : params(p), random(p.seed) {
    const auto slots = static_cast<uint32_t>(p.zone_tokens.size());
    cache.layers = 1;
    cache.kv_heads = p.kv_heads;
    cache.query_group = p.query_group;
    cache.head_dim = p.head_dim;
    cache.kv_dtype = p.kv_dtype;
    cache.slots = slots;
    cache.sink_tokens = p.sink_tokens;
    cache.ring_tokens = p.ring_tokens;
    uint32_t longest = 1;
    for (uint32_t tokens : p.zone_tokens) longest = std::max(longest, tokens);
    cache.max_pages = (longest + PKV_PAGE_TOKENS - 1) / PKV_PAGE_TOKENS;
    cache.page_capacity = slots * cache.max_pages;
    auto* zone = allocate<int32_t>(slots);
    for (uint32_t s = 0; s < slots; s++) zone[s] = static_cast<int32_t>(p.zone_tokens[s]);
    cache.zone_tokens = zone;
    auto* table = allocate<uint32_t>(cache.page_capacity);
    for (uint32_t i = 0; i < cache.page_capacity; i++) table[i] = i;
    std::shuffle(table, table + cache.page_capacity, random);
    cache.page_table = table;
    const size_t summary_bytes = cache.kv_heads * cache.head_page_summary_bytes();
    const size_t record_bytes = cache.kv_heads * cache.head_page_record_bytes();
    auto* summaries = allocate<uint8_t>(cache.page_capacity * summary_bytes);
    auto* records = allocate<uint8_t>(cache.page_capacity * record_bytes);
    page_records = records;
    page_records_bytes = cache.page_capacity * record_bytes;
    auto* address = allocate<uint64_t>(size_t{cache.page_capacity} * PKV_PAGE_ADDRESS_FIELDS);
    for (uint32_t i = 0; i < cache.page_capacity; i++) {
      address[i * PKV_PAGE_ADDRESS_FIELDS + PKV_PAGE_ADDRESS_SUMMARY] =
          reinterpret_cast<uint64_t>(summaries + i * summary_bytes);
      address[i * PKV_PAGE_ADDRESS_FIELDS + PKV_PAGE_ADDRESS_RECORDS] =
          reinterpret_cast<uint64_t>(records + i * record_bytes);
      address[i * PKV_PAGE_ADDRESS_FIELDS + PKV_PAGE_ADDRESS_RECORD_LAYER_BYTES] = cache.page_capacity * record_bytes;
    }
    cache.page_address = address;
    const size_t window_bytes = size_t{slots} * cache.kv_heads * cache.window_tokens() * cache.record_bytes();
    cache.window = allocate<uint8_t>(window_bytes);
    cache.invalid_keys = allocate<uint32_t>(size_t{slots} * cache.kv_heads);
    auto* budget = allocate<int32_t>(size_t{slots} * PKV_BUDGET_FIELDS);
    for (uint32_t s = 0; s < slots; s++) {
      budget[s * PKV_BUDGET_FIELDS + PKV_BUDGET_MODE] = p.mode;
      budget[s * PKV_BUDGET_FIELDS + PKV_BUDGET_CANDIDATES] = p.candidates;
      budget[s * PKV_BUDGET_FIELDS + PKV_BUDGET_TOP_K] = p.top_k;
    }
    cache.budget = budget;
    auto* calibration = allocate<float>(size_t{2} * cache.kv_heads * cache.head_dim);
    for (uint32_t h = 0; h < cache.kv_heads; h++) {
      for (uint32_t j = 0; j < cache.head_dim; j++) {
        calibration[2 * h * cache.head_dim + j] = 0.1f * normal();
        calibration[(2 * h + 1) * cache.head_dim + j] = 0.5f + uniform();
      }
    }
    cache.calibration = calibration;
    auto* signs = allocate<float>(cache.head_dim);
    for (uint32_t j = 0; j < cache.head_dim; j++) signs[j] = random() & 1 ? 1.0f : -1.0f;
    cache.signs = signs;
    static const float centres[8] = {0.0425f, 0.1280f, 0.2152f, 0.3053f, 0.4003f, 0.5030f, 0.6193f, 0.7648f};
    cache.centres = centres;

    fill_records(records, cache.page_capacity * record_bytes);
    fill_records(cache.window, window_bytes);
    fill_summaries(summaries, cache.page_capacity * summary_bytes);

    plan.cache = &cache;
    plan.max_rows = slots;
    plan.max_zone_tokens = cache.max_pages * PKV_PAGE_TOKENS;
    plan.max_candidates = p.max_candidates;
    plan.max_top_k = p.max_top_k;
    plan.votes = Votes::graded;
    plan.group = p.group;
    plan.rotated_queries = p.group == Group::mean ? 1 : p.query_group;
    plan.tables = p.group == Group::max ? p.query_group : 1;
    const size_t heads = size_t{slots} * cache.kv_heads;
    plan.rotated = allocate<float>(heads * plan.rotated_queries * cache.head_dim);
    plan.vote_tables = allocate<uint8_t>(heads * plan.tables * cache.subspaces() * PKV_CENTROIDS);
    plan.scores = allocate<uint16_t>(heads * plan.max_zone_tokens);
    plan.candidates = allocate<uint32_t>(heads * plan.max_candidates);
    plan.candidate_count = allocate<int32_t>(heads);
    plan.estimates = allocate<float>(heads * plan.rotated_queries * plan.max_candidates);
    plan.priorities = allocate<float>(heads * plan.max_candidates);
    plan.selected = allocate<uint32_t>(heads * plan.max_top_k);
    plan.selected_count = allocate<int32_t>(heads);
    plan.stats = allocate<float>(size_t{slots} * cache.query_heads() * PKV_STATS_FIELDS);
    plan.scratch_bytes = cpu::plan_scratch_bytes(plan, threads);
    plan.scratch = allocate<uint8_t>(plan.scratch_bytes);
    for (size_t i = 0; i < heads * plan.rotated_queries * cache.head_dim; i++) plan.rotated[i] = normal();
    for (size_t i = 0; i < heads * plan.tables * cache.subspaces() * PKV_CENTROIDS; i++) {
      plan.vote_tables[i] = static_cast<uint8_t>(random() % (PKV_MAX_VOTE + 1));
    }
    for (uint32_t s = 0; s < slots; s++) {
      rows.push_back(static_cast<int32_t>(s));
      rows.push_back(static_cast<int32_t>(p.sink_tokens + p.zone_tokens[s] + p.local_tokens[s] - 1));
    }
    q.resize(size_t{slots} * cache.query_heads() * cache.head_dim);
    out.resize(q.size());
    for (float& x : q) x = normal();
  }

  Step step() const { return {rows.data(), static_cast<uint32_t>(rows.size() / PKV_ROW_FIELDS)}; }
  StageParams stage() const { return {&plan, 0, step()}; }
  AttendParams attend() {
    const size_t stride = size_t{cache.query_heads()} * cache.head_dim;
    return {&plan, 0, step(), {q.data(), stride}, {out.data(), stride}};
  }
  void set_budget(int32_t mode, int32_t candidates, int32_t top_k) {
    auto* budget = const_cast<int32_t*>(cache.budget);
    for (uint32_t s = 0; s < cache.slots; s++, budget += PKV_BUDGET_FIELDS) {
      budget[PKV_BUDGET_MODE] = mode;
      budget[PKV_BUDGET_CANDIDATES] = candidates;
      budget[PKV_BUDGET_TOP_K] = top_k;
    }
  }
  float uniform() { return static_cast<float>(random() >> 40) * 0x1p-24f; }
  float normal() { return std::sqrt(-2 * std::log(1 - uniform())) * std::cos(6.2831853f * uniform()); }

 private:
  struct Free {
    size_t bytes;
    void operator()(void* memory) const {
#ifdef __linux__
      munmap(memory, bytes);
#else
      std::free(memory);
#endif
    }
  };
  std::vector<std::unique_ptr<void, Free>> owned_;

  template <class T>
  T* allocate(size_t count) {
    const size_t bytes = (std::max<size_t>(count * sizeof(T), 1) + 63) / 64 * 64;
#ifdef __linux__
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    madvise(memory, bytes, MADV_HUGEPAGE);
#else
    void* memory = std::calloc(bytes, 1);
#endif
    owned_.emplace_back(memory, Free{bytes});
    return static_cast<T*>(memory);
  }

  // A long random pattern repeated: drawing half a billion numbers would take longer than the bench.
  void fill_records(uint8_t* target, size_t bytes) {
    const size_t pattern_elements = 65537, element_bytes = dtype_bytes(params.kv_dtype);
    std::vector<uint8_t> pattern(pattern_elements * element_bytes);
    for (size_t i = 0; i < pattern_elements; i++) {
      const float x = normal();
      const uint16_t half = params.kv_dtype == Dtype::bf16 ? to_bf16(x) : to_f16(x);
      std::memcpy(&pattern[i * element_bytes], element_bytes == 4 ? static_cast<const void*>(&x) : &half,
                  element_bytes);
    }
    repeat(pattern, target, bytes);
  }
  void fill_summaries(uint8_t* target, size_t bytes) {
    std::vector<uint8_t> pattern(65537);
    for (uint8_t& byte : pattern) byte = static_cast<uint8_t>(random() % 256);
    repeat(pattern, target, bytes);
    // Weight planes: bytes around 1.0, so that estimates stay of ordinary size.
    const size_t head_page = cache.head_page_summary_bytes();
    for (size_t at = 0; at < bytes; at += head_page) {
      uint8_t* weights = cache.weights_of(target + at);
      for (size_t i = 0; i < size_t{PKV_PAGE_TOKENS} * cache.subspaces(); i++) {
        weights[i] = static_cast<uint8_t>(128 - 8 + weights[i] % 16);
      }
    }
  }
  static void repeat(const std::vector<uint8_t>& pattern, uint8_t* target, size_t bytes) {
    for (size_t at = 0; at < bytes; at += pattern.size())
      std::memcpy(target + at, pattern.data(), std::min(pattern.size(), bytes - at));
  }
};

}  // namespace pkv::bench
