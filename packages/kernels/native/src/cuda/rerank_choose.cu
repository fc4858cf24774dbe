// The second half of rerank (algorithm.md §3 step 5 and §4): priorities, the top K, and the mass that is left out. Works on
// the estimates, 4 bytes a candidate and rotated query, which are in the second-level cache; what counts is latency. One
// cluster for each row and KV head, whose blocks share the candidates in order.
#include "cuda/rerank_choose.h"

#include <cmath>

#include "cuda/choose.cuh"
#include "cuda/codec.cuh"
#include "cuda/launch.h"
#include "cuda/reduce.cuh"
#include "cuda/rerank_mass.cuh"
#include "cuda/step_rows.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kMaxQueries = 8;
constexpr uint32_t kItems = 2;  // candidates that a thread takes at a time when the chosen ones are listed
constexpr uint32_t kTopShift = 21, kMiddleShift = 10;  // digits of a key: 11, 11 and 10 bits

struct ChooseArguments {
  Cache cache;
  Plan plan;
  Codec codec;
  Step step;
  uint32_t layer;
  float scale;  // 1 / sqrt(head_dim)
};

struct Memory {
  ChooseMemory choose;
  uint32_t integers[32];
  float floats[32];
  double doubles[32];
  FixedSum sums[32];
  // What the blocks of the cluster tell each other. Every field is written once.
  float largest[kMaxQueries];
  FixedSum exp_sums[kMaxQueries];
  uint32_t ties_end;
  float largest_unselected[kMaxQueries];
  Moments moments[kMaxQueries];
  FixedSum unselected_sums[kMaxQueries];
  // What they make of it together.
  float references[kMaxQueries];  // largest scale * estimate
  float log_sums[kMaxQueries];    // log-sum-exp of scale * estimate; NaN for a query without a finite estimate
  float unselected_references[kMaxQueries];
  Moments all_moments;
};

// One row and KV head, as one block of its cluster sees it.
struct Head {
  const ChooseArguments& a;
  uint32_t row_head, head;
  int32_t slot;
  bool votes;      // mode vote; else scan
  uint32_t count;  // candidates
  Share share;
  const uint32_t* candidates;
  const float* estimates;  // [queries, max_candidates]
  float* priorities;

  __device__ const float* estimates_of(uint32_t query) const { return estimates + size_t{query} * a.plan.max_candidates; }

  // Calls body(place) for this thread's candidates.
  template <class Body>
  __device__ void for_each(const Body& body) const {
    for (uint32_t i = share.begin + threadIdx.x; i < share.end; i += kChooseThreads) body(i);
  }
};

// An integer of the same order as `priority`; -0 and +0 are equal.
__device__ uint32_t ordered_key(float priority) {
  const uint32_t bits = __float_as_uint(priority + 0.0f);
  return bits ^ (static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | 0x80000000u);
}

// What was decided: keys above `threshold`, and equal ones before the place `ties_end`.
struct Choice {
  uint32_t chosen, threshold, ties_end;
  __device__ bool takes(uint32_t key, uint32_t place) const {
    return key > threshold || (key == threshold && place < ties_end);
  }
};

// memory.log_sums: log-sum-exp over the candidates, for each rotated query.
__device__ void log_sums(const Head& head, Memory& memory) {
  const uint32_t queries = head.a.plan.rotated_queries;
  const float scale = head.a.scale;
  for (uint32_t h = 0; h < queries; ++h) {
    const float* const own = head.estimates_of(h);
    float largest = -INFINITY;
    head.for_each([&](uint32_t i) {
      if (isfinite(own[i])) largest = fmaxf(largest, own[i]);
    });
    largest = block_reduce(largest, memory.floats, Largest());
    if (threadIdx.x == 0) memory.largest[h] = largest;
  }
  cluster::sync();
  if (threadIdx.x < queries) {
    float largest = -INFINITY;
    for (uint32_t block = 0; block < cluster::size(); ++block) {
      largest = fmaxf(largest, cluster::at(memory.largest, block)[threadIdx.x]);
    }
    memory.references[threadIdx.x] = scale * largest;
  }
  __syncthreads();
  for (uint32_t h = 0; h < queries; ++h) {
    const float* const own = head.estimates_of(h);
    const float reference = memory.references[h];
    FixedSum sum = 0;
    if (isfinite(reference)) {
      head.for_each([&](uint32_t i) {
        if (isfinite(own[i])) sum += to_fixed(expf(scale * own[i] - reference));
      });
    }
    sum = block_reduce(sum, memory.sums, Sum());
    if (threadIdx.x == 0) memory.exp_sums[h] = sum;
  }
  cluster::sync();
  if (threadIdx.x < queries) {
    FixedSum sum = 0;
    for (uint32_t block = 0; block < cluster::size(); ++block) sum += cluster::at(memory.exp_sums, block)[threadIdx.x];
    const float reference = memory.references[threadIdx.x];
    memory.log_sums[threadIdx.x] = isfinite(reference) ? static_cast<float>(reference + log(from_fixed(sum))) : NAN;
  }
  __syncthreads();
}

// One priority a candidate: its estimate, or the queries' softmax-normalised estimates combined (algorithm.md §4).
__device__ float priority_of(const Head& head, const Memory& memory, uint32_t place) {
  const uint32_t queries = head.a.plan.rotated_queries;
  float priority;
  if (queries == 1) {
    priority = head.estimates[place];
  } else {
    const bool adds = head.a.plan.group == Group::sum;
    priority = adds ? 0.0f : -INFINITY;
    for (uint32_t h = 0; h < queries; ++h) {
      if (isnan(memory.log_sums[h])) continue;  // a query without a finite estimate has no say
      const float share = head.a.scale * head.estimates_of(h)[place] - memory.log_sums[h];
      if (adds) {
        priority += expf(share);
      } else if (share > priority) {
        priority = share;
      }
    }
  }
  return isfinite(priority) ? priority : -INFINITY;
}

// Writes the priorities and counts the top digit of their keys.
__device__ void prioritize(const Head& head, Memory& memory) {
  clear_histogram(memory.choose);
  head.for_each([&](uint32_t i) {
    const float priority = priority_of(head, memory, i);
    head.priorities[i] = priority;
    atomicAdd(&memory.choose.own[ordered_key(priority) >> kTopShift], 1);
  });
}

// Of the keys that begin with `prefix` (those with key >> shift_above == prefix), counts the digit key >> shift.
__device__ void count_digit(const Head& head, ChooseMemory& memory, uint32_t prefix, uint32_t shift_above, uint32_t shift) {
  clear_histogram(memory);
  head.for_each([&](uint32_t i) {
    const uint32_t key = ordered_key(head.priorities[i]);
    if (key >> shift_above == prefix) atomicAdd(&memory.own[key >> shift & ((1u << (shift_above - shift)) - 1)], 1);
  });
}

// Selects the min(top_k, count) highest priorities, ties to the smaller place.
__device__ Choice choose(const Head& head, Memory& memory, uint32_t top_k) {
  ChooseMemory& choose = memory.choose;
  uint32_t* const selected = head.a.plan.selected + size_t{head.row_head} * head.a.plan.max_top_k;
  if (head.count <= top_k) {
    head.for_each([&](uint32_t i) { selected[i] = head.candidates[i]; });
    return {head.count, 0, 0};  // no key is 0
  }
  if (top_k == 0) return {0, 0xffffffffu, 0};  // nor this
  Cut cut;
  sum_histograms(choose);
  find_cut(choose, top_k, cut);
  const uint32_t top = cut.bin;
  count_digit(head, choose, top, kTopShift, kMiddleShift);
  sum_histograms(choose);
  find_cut(choose, cut.quota, cut);
  const uint32_t middle = top << (kTopShift - kMiddleShift) | cut.bin;
  count_digit(head, choose, middle, kMiddleShift, 0);
  sum_histograms(choose);
  find_cut(choose, cut.quota, cut);
  const uint32_t threshold = middle << kMiddleShift | cut.bin;

  uint32_t above = 0, equal = 0, sum;
  head.for_each([&](uint32_t i) {
    const uint32_t key = ordered_key(head.priorities[i]);
    above += key > threshold ? 1 : 0;
    equal += key == threshold ? 1 : 0;
  });
  block_prefix(above, choose.warp_totals, sum);
  above = sum;
  block_prefix(equal, choose.warp_totals, sum);
  const Counts before = counts_before(choose, {above, sum});
  if (threadIdx.x == 0) memory.ties_end = 0;
  __syncthreads();
  const auto key_at = [&](uint32_t i) { return i < head.share.end ? ordered_key(head.priorities[i]) : 0; };
  compact<kItems>(
      choose, head.share.begin, head.share.end, before, cut.quota,
      [&](uint32_t first, uint32_t(&classes)[kItems]) {
#pragma unroll
        for (uint32_t i = 0; i < kItems; ++i) {
          const uint32_t key = key_at(first + i);
          classes[i] = key > threshold ? kAbove : key == threshold ? kEqual : 0;
        }
      },
      [&](uint32_t place, uint32_t i) {
        selected[place] = head.candidates[i];
        if (key_at(i) == threshold) atomicMax(&memory.ties_end, i + 1);
      });
  cluster::sync();
  uint32_t ties_end = 0;
  for (uint32_t block = 0; block < cluster::size(); ++block) {
    ties_end = max(ties_end, *cluster::at(&memory.ties_end, block));
  }
  return {top_k, threshold, ties_end};
}

// memory.choose.total: the zone's keys outside the candidates, counted by score. In mode scan there are none.
__device__ void count_others(const Head& head, ChooseMemory& memory) {
  const Plan& plan = head.a.plan;
  const uint16_t* const scores = plan.scores + size_t{head.row_head} * plan.max_zone_tokens;
  clear_histogram(memory);
  if (head.votes) {
    const Share tokens = share_of(plan_zone_tokens(head.a.cache, plan, head.slot), kChooseThreads);
    for (uint32_t i = tokens.begin + threadIdx.x; i < tokens.end; i += kChooseThreads) {
      if (scores[i] < PKV_SCORE_BINS) atomicAdd(&memory.own[scores[i]], 1);
    }
    // One block may take off what another has counted: the sum is right, modulo 2^32.
    head.for_each([&](uint32_t i) {
      const uint32_t score = scores[head.candidates[i]];
      if (score < PKV_SCORE_BINS) atomicSub(&memory.own[score], 1);
    });
  }
  sum_histograms(memory);
}

// Statistics of all query heads of the group: LSE_UNSELECTED and LSE_OTHERS.
__device__ void write_mass(const Head& head, Memory& memory, const Choice& choice) {
  const Plan& plan = head.a.plan;
  const Cache& cache = head.a.cache;
  const uint32_t queries = plan.rotated_queries;
  const float scale = head.a.scale;
  const uint16_t* const scores = plan.scores + size_t{head.row_head} * plan.max_zone_tokens;
  count_others(head, memory.choose);
  const int32_t score_origin = head.votes && head.count > 0 ? scores[head.candidates[0]] : 0;
  const auto is_unselected = [&](uint32_t i) { return !choice.takes(ordered_key(head.priorities[i]), i); };

  for (uint32_t h = 0; h < queries; ++h) {
    const float* const own = head.estimates_of(h);
    float largest = -INFINITY;
    Moments moments{};
    head.for_each([&](uint32_t i) {
      if (!isfinite(own[i])) return;
      if (is_unselected(i)) largest = fmaxf(largest, own[i]);
      if (head.votes) moments.add(static_cast<int32_t>(scores[head.candidates[i]]) - score_origin, own[i]);
    });
    largest = block_reduce(largest, memory.floats, Largest());
    if (head.votes) moments = block_sum(moments, memory.doubles);
    if (threadIdx.x == 0) {
      memory.largest_unselected[h] = largest;
      memory.moments[h] = moments;
    }
  }
  cluster::sync();
  if (threadIdx.x < queries) {
    float largest = -INFINITY;
    for (uint32_t block = 0; block < cluster::size(); ++block) {
      largest = fmaxf(largest, cluster::at(memory.largest_unselected, block)[threadIdx.x]);
    }
    memory.unselected_references[threadIdx.x] = scale * largest;
  }
  __syncthreads();
  for (uint32_t h = 0; h < queries; ++h) {
    const float* const own = head.estimates_of(h);
    const float reference = memory.unselected_references[h];
    FixedSum sum = 0;
    if (isfinite(reference)) {
      head.for_each([&](uint32_t i) {
        if (isfinite(own[i]) && is_unselected(i)) sum += to_fixed(expf(scale * own[i] - reference));
      });
    }
    sum = block_reduce(sum, memory.sums, Sum());
    if (threadIdx.x == 0) memory.unselected_sums[h] = sum;
  }
  cluster::sync();

  // Each block finishes its share of the queries.
  for (uint32_t h = cluster::rank(); h < queries; h += cluster::size()) {
    if (threadIdx.x < 32) {
      const float* const mu = cache.calibration + (size_t{head.a.layer} * cache.kv_heads + head.head) * 2 * cache.head_dim;
      const float* const rotated = plan.rotated + (size_t{head.row_head} * queries + h) * cache.head_dim;
      const double shift = scale * centring_shift(mu, mu + cache.head_dim, rotated, cache.head_dim,
                                                  [&](uint32_t j) { return head.a.codec.is_negative(j); });
      if (threadIdx.x == 0) {
        Moments moments{};
        FixedSum sum = 0;
        for (uint32_t block = 0; block < cluster::size(); ++block) {
          moments.add(cluster::at(memory.moments, block)[h]);
          sum += cluster::at(memory.unselected_sums, block)[h];
        }
        memory.all_moments = moments;
        memory.doubles[0] = shift;
        memory.doubles[1] = sum > 0 ? memory.unselected_references[h] + log(from_fixed(sum)) : -INFINITY;
      }
    }
    __syncthreads();
    const double shift = memory.doubles[0], unselected = memory.doubles[1];
    const double others =
        log_sum_others(memory.choose.total, memory.all_moments, score_origin, scale, memory.integers, memory.sums);
    if (threadIdx.x == 0) {
      // One rotated query stands for all heads of the group.
      const uint32_t last = queries == 1 ? cache.query_group : h + 1;
      for (uint32_t g = h; g < last; ++g) {
        float* const stats = plan.stats + (size_t{head.row_head} * cache.query_group + g) * PKV_STATS_FIELDS;
        stats[PKV_STATS_LSE_UNSELECTED] = static_cast<float>(unselected + shift);
        stats[PKV_STATS_LSE_OTHERS] = static_cast<float>(others + shift);
      }
    }
    __syncthreads();
  }
}

// Grid: one cluster for each row and KV head.
__global__ void __launch_bounds__(kChooseThreads) choose_kernel(const __grid_constant__ ChooseArguments a) {
  __shared__ Memory memory;
  const Cache& cache = a.cache;
  const Plan& plan = a.plan;
  const uint32_t row_head = blockIdx.x / cluster::size();
  const uint32_t row = row_head / cache.kv_heads;
  const int32_t mode = row_mode(cache, a.layer, a.step, row);
  if (mode != PKV_MODE_VOTE && mode != PKV_MODE_SCAN) return;
  const int32_t slot = a.step.slot(row);
  const uint32_t count = min(static_cast<uint32_t>(max(plan.candidate_count[row_head], 0)), plan.max_candidates);
  const Head head{a,
                  row_head,
                  row_head % cache.kv_heads,
                  slot,
                  mode == PKV_MODE_VOTE,
                  count,
                  share_of(count, kItems),
                  plan.candidates + size_t{row_head} * plan.max_candidates,
                  plan.estimates + size_t{row_head} * plan.rotated_queries * plan.max_candidates,
                  plan.priorities + size_t{row_head} * plan.max_candidates};
  const int32_t budget = cache.budget_of(static_cast<size_t>(slot), a.layer)[PKV_BUDGET_TOP_K];
  const uint32_t top_k = min(static_cast<uint32_t>(max(budget, 0)), plan.max_top_k);

  if (plan.rotated_queries > 1) log_sums(head, memory);
  prioritize(head, memory);
  const Choice choice = choose(head, memory, top_k);
  if (cluster::rank() == 0 && threadIdx.x == 0) plan.selected_count[row_head] = static_cast<int32_t>(choice.chosen);
  __syncthreads();
  write_mass(head, memory, choice);
  cluster::sync();
}

}  // namespace

void choose_top(const Runtime& runtime, const StageParams& params) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  const uint32_t heads = params.step.row_count * cache.kv_heads;
  const uint32_t blocks = cluster_blocks(runtime, heads, plan.max_candidates, tuning::choose_block_candidates);
  const ChooseArguments arguments{cache, plan, Codec(cache), params.step, params.layer,
                                  1.0f / std::sqrt(static_cast<float>(cache.head_dim))};
  launch(runtime, "rerank: choice", choose_kernel, {heads * blocks, kChooseThreads, 0, blocks}, arguments);
}

}  // namespace pkv::cuda
