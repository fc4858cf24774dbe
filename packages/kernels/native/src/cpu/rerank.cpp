// rerank: estimates of the candidates from their codes, the top K of every KV head, and the mass that is left out
// (algorithm.md §3 step 5). Reads head_dim / 2 + head_dim / 8 bytes a candidate.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/even_odd.h"
#include "cpu/plan_scratch.h"
#include "cpu/rerank_choose.h"
#include "cpu/rerank_kernels.h"
#include "cpu/rerank_mass.h"
#include "cpu/step_rows.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kTaskKeys = 512;
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

  void gather(const Cache& cache, const uint32_t* pages, uint32_t layer, size_t head, const uint32_t* candidates,
              uint32_t count) {
    keys = std::min(count, kEstimateBlockKeys);
    for (uint32_t i = 0; i < kEstimateBlockKeys; i++) {
      const uint32_t key = candidates[i < keys ? i : 0];
      uint8_t* summary = cache.summary_of(pages[key / PKV_PAGE_TOKENS], layer, head);
      const size_t row = key % PKV_PAGE_TOKENS;
      codes[i] = cache.codes_of(summary) + row * (cache.head_dim / 2);
      weights[i] = cache.weights_of(summary) + row * cache.subspaces();
    }
  }
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
  for (uint32_t h = 0; h < queries; h++) {
    for (uint32_t i = 0; i < d; i++) rotated[h * d + i] = source[h * d + natural_index(i, kernels.interleave)];
  }
  alignas(64) float values[2 * PKV_MAGNITUDE_LEVELS];
  for (uint32_t level = 0; level < PKV_MAGNITUDE_LEVELS; level++) {
    values[level] = -cache.centres[level];
    values[level | PKV_CODE_SIGN_BIT] = cache.centres[level];
  }
  const uint32_t* pages = cache.page_table + static_cast<size_t>(params.step.slot(row)) * cache.max_pages;
  const uint32_t* candidates = plan.candidates + row_head * plan.max_candidates;
  float* estimates = plan.estimates + row_head * queries * plan.max_candidates;
  Gathered gathered[2];
  gathered[0].gather(cache, pages, params.layer, head, candidates + begin, end - begin);
  unsigned current = 0;
  for (uint32_t at = begin; at < end; at += kEstimateBlockKeys, current ^= 1) {
    const uint32_t following = at + kEstimateBlockKeys;
    const bool last = following >= end;
    if (!last) gathered[current ^ 1].gather(cache, pages, params.layer, head, candidates + following, end - following);
    const Gathered& now = gathered[current];
    const Gathered& next = gathered[last ? current : current ^ 1];
    EstimateBlock block{};
    block.codes = now.codes;
    block.weights = now.weights;
    block.next_codes = next.codes;
    block.next_weights = next.weights;
    block.keys = now.keys;
    block.head_dim = d;
    block.values = values;
    block.estimate_stride = plan.max_candidates;
    for (uint32_t h = 0; h < queries; h += kEstimateQueries) {
      block.queries = std::min(queries - h, kEstimateQueries);
      block.rotated = rotated + h * d;
      block.estimates = estimates + size_t{h} * plan.max_candidates + at;
      kernels.estimate(block);
    }
  }
}

// One priority a candidate: its estimate, or the heads' softmax-normalised estimates combined (algorithm.md §4).
void prioritize(const Plan& plan, const RerankKernels& kernels, const float* estimates, uint32_t count, float scale,
                float* priorities) {
  if (plan.rotated_queries == 1) {
    std::copy(estimates, estimates + count, priorities);
    return;
  }
  std::fill(priorities, priorities + count, plan.group == Group::sum ? 0.0f : kNothing);
  for (uint32_t h = 0; h < plan.rotated_queries; h++) {
    const float* own = estimates + size_t{h} * plan.max_candidates;
    const float reference = scale * kernels.largest(own, count);
    if (!std::isfinite(reference)) continue;  // a head without a finite estimate has no say
    const auto log_sum = static_cast<float>(reference + std::log(kernels.exp_sum(own, count, scale, reference)));
    (plan.group == Group::sum ? kernels.add_share : kernels.raise_to_share)(own, count, scale, log_sum, priorities);
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

  prioritize(plan, kernels, estimates, count, 1.0f / std::sqrt(static_cast<float>(cache.head_dim)), priorities);
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
  const size_t tasks_a_head = (most + kTaskKeys - 1) / kTaskKeys;
  parallel_for(runtime.pool, heads * tasks_a_head, [&](size_t index, unsigned) {
    const size_t row_head = index / tasks_a_head;
    if (!is_ranked(params, row_head / kv_heads)) return;
    const auto begin = static_cast<uint32_t>(index % tasks_a_head * kTaskKeys);
    const uint32_t end = std::min(begin + kTaskKeys, candidate_count(plan, row_head));
    if (begin < end) estimate_candidates(params, kernels, row_head / kv_heads, row_head % kv_heads, begin, end);
  });
  parallel_for(runtime.pool, heads, [&](size_t row_head, unsigned thread) {
    if (!is_ranked(params, row_head / kv_heads)) return;
    RerankScratch scratch(plan, thread);
    choose(params, kernels, row_head / kv_heads, row_head % kv_heads, scratch);
  });
}

}  // namespace pkv::cpu
