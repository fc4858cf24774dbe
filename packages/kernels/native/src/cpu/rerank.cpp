// rerank: estimates of the candidates from their codes, the top K of every KV head, and the mass that is left out
// (docs/mathematics.md §3 step 5). Reads head_dim / 2 + head_dim / 8 bytes a candidate.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/even_odd.h"
#include "cpu/plan_scratch.h"
#include "cpu/rerank_choose.h"
#include "cpu/rerank_kernels.h"
#include "cpu/rerank_mass.h"
#include "cpu/step_rows.h"
#include "cpu/task_shares.h"

namespace pkv::cpu {
namespace {

// A task brings its queries into the kernel's order first: fewer keys would not be worth it.
constexpr uint32_t kLeastTaskKeys = 512;
constexpr float kNothing = -std::numeric_limits<float>::infinity();

bool is_ranked(const StageParams& params, size_t row) {
  const int32_t mode = row_mode(*params.plan->cache, params.layer, params.step, row);
  return mode == PKV_MODE_SCAN || mode == PKV_MODE_VOTE;
}

uint32_t candidate_count(const Plan& plan, size_t row_head) {
  return std::min(static_cast<uint32_t>(std::max(plan.candidate_count[row_head], 0)), plan.max_candidates);
}

// Where the codes and weights of a block of candidates lie.
struct Gathered {
  const uint8_t* codes[kEstimateBlockKeys];
  const uint8_t* weights[kEstimateBlockKeys];
  uint32_t keys;
};

// Finds the codes and weights of keys of one slot, layer and KV head. Neighbouring candidates share a page.
class Gatherer {
 public:
  Gatherer(const Cache& cache, int32_t slot, uint32_t layer, size_t head)
      : cache_(cache), pages_(cache.page_table + static_cast<size_t>(slot) * cache.max_pages), layer_(layer), head_(head) {}

  // The first block of `candidates` [count], and into the second-level cache what it points to.
  void gather(const uint32_t* candidates, uint32_t count, Gathered& block) {
    const size_t code_bytes = cache_.head_dim / 2, weight_bytes = cache_.subspaces();
    block.keys = std::min(count, kEstimateBlockKeys);
    for (uint32_t i = 0; i < block.keys; i++) {
      const uint32_t key = candidates[i];
      turn_to(key / PKV_PAGE_TOKENS);
      const size_t row = key % PKV_PAGE_TOKENS;
      block.codes[i] = codes_ + row * code_bytes;
      block.weights[i] = weights_ + row * weight_bytes;
      for (size_t byte = 0; byte < code_bytes; byte += 64) __builtin_prefetch(block.codes[i] + byte, 0, 2);
      __builtin_prefetch(block.weights[i], 0, 2);
    }
    for (uint32_t i = block.keys; i < kEstimateBlockKeys; i++) {
      block.codes[i] = block.codes[0];
      block.weights[i] = block.weights[0];
    }
  }

 private:
  void turn_to(uint32_t page) {
    if (page == page_) return;
    page_ = page;
    uint8_t* summary = cache_.summary_of(pages_[page], layer_, head_);
    codes_ = cache_.codes_of(summary);
    weights_ = cache_.weights_of(summary);
  }

  const Cache& cache_;
  const uint32_t* pages_;
  uint32_t layer_;
  size_t head_;
  uint32_t page_ = UINT32_MAX;
  const uint8_t* codes_ = nullptr;
  const uint8_t* weights_ = nullptr;
};

// Estimates of the candidates [begin, end) of one row and KV head, for all its rotated queries.
void estimate_candidates(const StageParams& params, const RerankKernels& kernels, size_t row, size_t head,
                         uint32_t begin, uint32_t end) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  const uint32_t d = cache.head_dim, queries = plan.rotated_queries;
  const size_t row_head = row * cache.kv_heads + head;
  alignas(64) float rotated[8 * PKV_MAX_HEAD_DIM];
  const float* source = plan.rotated + row_head * queries * d;
  to_even_odd(source, queries * d, kernels.interleave, 1.0f, rotated);
  alignas(64) float values[2 * PKV_MAGNITUDE_LEVELS];
  for (uint32_t level = 0; level < PKV_MAGNITUDE_LEVELS; level++) {
    values[level] = -cache.centres[level];
    values[level | PKV_CODE_SIGN_BIT] = cache.centres[level];
  }
  const uint32_t* candidates = plan.candidates + row_head * plan.max_candidates;
  float* estimates = plan.estimates + row_head * queries * plan.max_candidates;
  // Three blocks: one is worked on, the kernel takes the next one into the first-level cache, and the one after that comes
  // into the second.
  Gathered gathered[3];
  Gatherer gatherer(cache, params.step.slot(row), params.layer, head);
  const auto gather = [&](uint32_t block) {
    const uint32_t first = begin + block * kEstimateBlockKeys;
    if (first >= end) return;
    gatherer.gather(candidates + first, end - first, gathered[block % 3]);
  };
  gather(0);
  gather(1);
  for (uint32_t block = 0; begin + block * kEstimateBlockKeys < end; block++) {
    gather(block + 2);
    const uint32_t at = begin + block * kEstimateBlockKeys;
    const bool last = at + kEstimateBlockKeys >= end;
    const Gathered& now = gathered[block % 3];
    const Gathered& next = gathered[(last ? block : block + 1) % 3];
    EstimateBlock estimate{};
    estimate.codes = now.codes;
    estimate.weights = now.weights;
    estimate.next_codes = next.codes;
    estimate.next_weights = next.weights;
    estimate.keys = now.keys;
    estimate.head_dim = d;
    estimate.values = values;
    estimate.estimate_stride = plan.max_candidates;
    for (uint32_t h = 0; h < queries; h += kEstimateQueries) {
      estimate.queries = std::min(queries - h, kEstimateQueries);
      estimate.rotated = rotated + h * d;
      estimate.estimates = estimates + size_t{h} * plan.max_candidates + at;
      kernels.estimate(estimate);
    }
  }
}

// One priority a candidate: its estimate, or the heads' softmax-normalised estimates combined (docs/mathematics.md §4).
void prioritize(const Plan& plan, const RerankKernels& kernels, const float* estimates, uint32_t count, float scale,
                RerankScratch& scratch, float* priorities) {
  if (plan.rotated_queries == 1) {
    std::copy(estimates, estimates + count, priorities);
    return;
  }
  std::fill(priorities, priorities + count, plan.group == Group::sum ? 0.0f : kNothing);
  for (uint32_t h = 0; h < plan.rotated_queries; h++) {
    const float* own = estimates + size_t{h} * plan.max_candidates;
    const float reference = scale * kernels.largest(own, count);
    if (!std::isfinite(reference)) continue;  // a head without a finite estimate has no say
    if (plan.group == Group::sum) {
      kernels.add_softmax(own, count, scale, reference, scratch.values, priorities);
    } else {
      const double log_sum = reference + std::log(kernels.exp_sum(own, count, scale, reference));
      kernels.raise_to_share(own, count, scale, static_cast<float>(log_sum), priorities);
    }
  }
}

// The mass that a choice leaves out, for all query heads of one row and KV head (docs/mathematics.md §5). `chosen` of the
// `count` candidates are scratch.chosen.
void write_mass(const StageParams& params, const RerankKernels& kernels, size_t row, size_t head, uint32_t count,
                uint32_t chosen, RerankScratch& scratch) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  const int32_t slot = params.step.slot(row);
  const size_t row_head = row * cache.kv_heads + head;
  const float scale = 1.0f / std::sqrt(static_cast<float>(cache.head_dim));
  float* estimates = plan.estimates + row_head * plan.rotated_queries * plan.max_candidates;
  // In mode scan every valid key is a candidate, so there are no others.
  const bool votes = row_mode(cache, params.layer, params.step, row) == PKV_MODE_VOTE;
  const OtherKeys others(plan.scores + row_head * plan.max_zone_tokens, votes ? plan_zone_tokens(plan, slot) : 0,
                         plan.candidates + row_head * plan.max_candidates, votes ? count : 0, scratch);
  double shifts[8];
  centring_shifts(cache, params.layer, head, plan.rotated + row_head * plan.rotated_queries * cache.head_dim,
                  plan.rotated_queries, shifts);
  for (uint32_t g = 0; g < cache.query_group; g++) {
    float* stats = plan.stats + (row_head * cache.query_group + g) * PKV_STATS_FIELDS;
    if (g >= plan.rotated_queries) {  // one rotated query stands for all heads of the group
      const float* previous = stats - PKV_STATS_FIELDS;
      stats[PKV_STATS_LSE_UNSELECTED] = previous[PKV_STATS_LSE_UNSELECTED];
      stats[PKV_STATS_LSE_OTHERS] = previous[PKV_STATS_LSE_OTHERS];
      continue;
    }
    float* own = estimates + size_t{g} * plan.max_candidates;
    const double shift = scale * shifts[g];
    const Moments moments = votes ? kernels.moments(own, scratch.candidate_scores, count) : Moments{};
    stats[PKV_STATS_LSE_UNSELECTED] =
        static_cast<float>(log_sum_unselected(kernels, own, count, chosen, scale, scratch) + shift);
    stats[PKV_STATS_LSE_OTHERS] = static_cast<float>(others.log_sum(moments, scale) + shift);
  }
}

// Where the mass is not estimated, its statistics say so.
void leave_mass_open(const Plan& plan, size_t row_head) {
  const size_t query_group = plan.cache->query_group;
  for (size_t query = row_head * query_group; query < (row_head + 1) * query_group; query++) {
    float* stats = plan.stats + query * PKV_STATS_FIELDS;
    stats[PKV_STATS_LSE_UNSELECTED] = stats[PKV_STATS_LSE_OTHERS] = std::numeric_limits<float>::quiet_NaN();
  }
}

// The choice among the candidates of one row and KV head.
void choose(const StageParams& params, const RerankKernels& kernels, size_t row, size_t head, RerankScratch& scratch) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  const int32_t* budget = cache.budget_of(static_cast<size_t>(params.step.slot(row)), params.layer);
  const size_t row_head = row * cache.kv_heads + head;
  const uint32_t count = candidate_count(plan, row_head);
  const uint32_t* candidates = plan.candidates + row_head * plan.max_candidates;
  const float* estimates = plan.estimates + row_head * plan.rotated_queries * plan.max_candidates;
  float* priorities = plan.priorities + row_head * plan.max_candidates;

  const float scale = 1.0f / std::sqrt(static_cast<float>(cache.head_dim));
  prioritize(plan, kernels, estimates, count, scale, scratch, priorities);
  const uint32_t top_k = std::min(static_cast<uint32_t>(std::max(budget[PKV_BUDGET_TOP_K], 0)), plan.max_top_k);
  const uint32_t chosen = choose_top(priorities, count, top_k, scratch);
  uint32_t* selected = plan.selected + row_head * plan.max_top_k;
  for (uint32_t i = 0; i < chosen; i++) selected[i] = candidates[scratch.chosen[i]];
  plan.selected_count[row_head] = static_cast<int32_t>(chosen);
  if (plan.estimate_mass) {
    write_mass(params, kernels, row, head, count, chosen, scratch);
  } else {
    leave_mass_open(plan, row_head);
  }
}

}  // namespace

const RerankKernels& rerank_kernels(Isa isa) {
#if defined(__x86_64__) || defined(_M_X64)
  if (isa >= Isa::avx512) return rerank_avx512;
  if (isa >= Isa::avx2) return rerank_avx2;
#endif
  (void)isa;
  return rerank_portable;
}

void rerank(Runtime& runtime, const StageParams& params) {
  const Plan& plan = *params.plan;
  const size_t kv_heads = plan.cache->kv_heads;
  const RerankKernels& kernels = rerank_kernels(runtime.isa);
  const size_t heads = params.step.row_count * kv_heads;
  uint32_t most = 0;
  for (size_t row_head = 0; row_head < heads; row_head++) {
    if (is_ranked(params, row_head / kv_heads)) most = std::max(most, candidate_count(plan, row_head));
  }
  const size_t tasks = tasks_a_head((most + kLeastTaskKeys - 1) / kLeastTaskKeys, heads, runtime.pool.threads());
  const uint32_t task_keys = tasks == 0 ? 0 : static_cast<uint32_t>((most + tasks - 1) / tasks);
  parallel_for(runtime.pool, heads * tasks, [&](size_t index, unsigned) {
    const size_t row_head = index / tasks;
    if (!is_ranked(params, row_head / kv_heads)) return;
    const auto begin = static_cast<uint32_t>(index % tasks * task_keys);
    const uint32_t end = std::min(begin + task_keys, candidate_count(plan, row_head));
    if (begin < end) estimate_candidates(params, kernels, row_head / kv_heads, row_head % kv_heads, begin, end);
  });
  parallel_for(runtime.pool, heads, [&](size_t row_head, unsigned thread) {
    if (!is_ranked(params, row_head / kv_heads)) return;
    RerankScratch scratch(plan, thread);
    choose(params, kernels, row_head / kv_heads, row_head % kv_heads, scratch);
  });
}

}  // namespace pkv::cpu
