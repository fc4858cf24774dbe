// The mass that attention leaves out, estimated after the choice where a plan asks for it (docs/mathematics.md §5). Speed does not
// matter here. One cluster for each row and KV head, whose blocks share the candidates and the tokens.
#include "cuda/rerank_mass.cuh"

#include <cmath>

#include "cuda/cluster.cuh"
#include "cuda/codec.cuh"
#include "cuda/launch.h"
#include "cuda/priorities.cuh"
#include "cuda/rerank_stages.h"
#include "cuda/spans.cuh"
#include "cuda/step_rows.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kMaxQueries = 8;

struct MassArguments {
  Cache cache;
  Plan plan;
  Codec codec;
  Step step;
  uint32_t layer;
  float scale;  // 1 / sqrt(head_dim)
};

struct Memory {
  uint32_t own[kCountBins];    // this block's histogram of scores
  uint32_t total[kCountBins];  // that of the cluster
  uint32_t integers[32];
  float floats[32];
  double doubles[32];
  FixedSum sums[32];
  // What the blocks of the cluster tell each other. Every field is written once.
  float largest_unselected[kMaxQueries];
  Moments moments[kMaxQueries];
  FixedSum unselected_sums[kMaxQueries];
  // What they make of it together.
  float references[kMaxQueries];  // largest scale * estimate of the unselected
  Moments all_moments;
};

// One row and KV head, as one block of its cluster sees it.
struct Head {
  const MassArguments& a;
  uint32_t row_head, head;
  bool votes;            // mode vote; else scan
  Span share, tokens;    // of the candidates, of the zone
  uint32_t selected_count;
  const uint32_t* candidates;
  const uint32_t* selected;  // [selected_count], ascending
  const uint16_t* scores;
  const float* estimates;    // [queries, max_candidates]

  __device__ const float* estimates_of(uint32_t query) const { return estimates + size_t{query} * a.plan.max_candidates; }

  __device__ bool is_selected(uint32_t place) const {
    const uint32_t key = candidates[place];
    uint32_t begin = 0, end = selected_count;
    while (begin < end) {
      const uint32_t middle = (begin + end) / 2;
      if (selected[middle] < key) {
        begin = middle + 1;
      } else {
        end = middle;
      }
    }
    return begin < selected_count && selected[begin] == key;
  }

  // Calls body(place) for this thread's candidates.
  template <class Body>
  __device__ void for_each(const Body& body) const {
    for (uint32_t i = share.begin + threadIdx.x; i < share.end; i += kBlockThreads) body(i);
  }
};

// memory.total: the zone's keys outside the candidates, counted by score. In mode scan there are none.
__device__ void count_others(const Head& head, Memory& memory) {
  for (uint32_t bin = threadIdx.x; bin < kCountBins; bin += kBlockThreads) memory.own[bin] = 0;
  __syncthreads();
  if (head.votes) {
    for (uint32_t i = head.tokens.begin + threadIdx.x; i < head.tokens.end; i += kBlockThreads) {
      if (head.scores[i] < PKV_SCORE_BINS) atomicAdd(&memory.own[head.scores[i]], 1);
    }
    // One block may take off what another has counted: the sum is right, modulo 2^32.
    head.for_each([&](uint32_t i) {
      const uint32_t score = head.scores[head.candidates[i]];
      if (score < PKV_SCORE_BINS) atomicSub(&memory.own[score], 1);
    });
  }
  cluster::sync();
  for (uint32_t bin = threadIdx.x; bin < kCountBins; bin += kBlockThreads) {
    uint32_t sum = 0;
    for (uint32_t block = 0; block < cluster::size(); ++block) sum += cluster::at(memory.own, block)[bin];
    memory.total[bin] = sum;
  }
  cluster::sync();
}

// memory.moments, and memory.largest_unselected joined over the cluster in memory.references.
__device__ void sum_candidates(const Head& head, int32_t score_origin, Memory& memory) {
  const uint32_t queries = head.a.plan.rotated_queries;
  for (uint32_t h = 0; h < queries; ++h) {
    const float* const own = head.estimates_of(h);
    float largest = -INFINITY;
    Moments moments{};
    head.for_each([&](uint32_t i) {
      if (!isfinite(own[i])) return;
      if (!head.is_selected(i)) largest = fmaxf(largest, own[i]);
      if (head.votes) moments.add(static_cast<int32_t>(head.scores[head.candidates[i]]) - score_origin, own[i]);
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
    memory.references[threadIdx.x] = head.a.scale * largest;
  }
  __syncthreads();
}

// memory.unselected_sums, relative to memory.references.
__device__ void sum_unselected(const Head& head, Memory& memory) {
  for (uint32_t h = 0; h < head.a.plan.rotated_queries; ++h) {
    const float* const own = head.estimates_of(h);
    const float reference = memory.references[h];
    FixedSum sum = 0;
    if (isfinite(reference)) {
      head.for_each([&](uint32_t i) {
        if (isfinite(own[i]) && !head.is_selected(i)) sum += to_fixed(expf(head.a.scale * own[i] - reference));
      });
    }
    sum = block_reduce(sum, memory.sums, Sum());
    if (threadIdx.x == 0) memory.unselected_sums[h] = sum;
  }
  cluster::sync();
}

// The statistics of rotated query `h`, by one block.
__device__ void write_statistics(const Head& head, uint32_t h, int32_t score_origin, Memory& memory) {
  const Plan& plan = head.a.plan;
  const Cache& cache = head.a.cache;
  const uint32_t queries = plan.rotated_queries;
  const float scale = head.a.scale;
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
      memory.doubles[1] = sum > 0 ? memory.references[h] + log(from_fixed(sum)) : -INFINITY;
    }
  }
  __syncthreads();
  const double shift = memory.doubles[0], unselected = memory.doubles[1];
  const double others = log_sum_others(memory.total, memory.all_moments, score_origin, scale, memory.integers, memory.sums);
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

// Grid: one cluster for each row and KV head.
__global__ void __launch_bounds__(kBlockThreads) mass_kernel(const __grid_constant__ MassArguments a) {
  __shared__ Memory memory;
  const Cache& cache = a.cache;
  const Plan& plan = a.plan;
  const uint32_t blocks = cluster::size(), rank = cluster::rank();
  const uint32_t row_head = blockIdx.x / blocks, row = row_head / cache.kv_heads;
  const uint32_t count = candidates_of(plan, row_head);
  const StepRow step_row(cache, plan, a.layer, a.step, row);
  if (!step_row.is_searched()) return;
  const Head head{a,
                  row_head,
                  row_head % cache.kv_heads,
                  step_row.mode == PKV_MODE_VOTE,
                  span_of(count, 1, blocks, rank),
                  span_of(step_row.zone_tokens, 1, blocks, rank),
                  static_cast<uint32_t>(plan.selected_count[row_head]),
                  plan.candidates + size_t{row_head} * plan.max_candidates,
                  plan.selected + size_t{row_head} * plan.max_top_k,
                  plan.scores + size_t{row_head} * plan.max_zone_tokens,
                  plan.estimates + size_t{row_head} * plan.rotated_queries * plan.max_candidates};
  const int32_t score_origin = head.votes && count > 0 ? head.scores[head.candidates[0]] : 0;
  count_others(head, memory);
  sum_candidates(head, score_origin, memory);
  sum_unselected(head, memory);
  for (uint32_t h = rank; h < plan.rotated_queries; h += blocks) write_statistics(head, h, score_origin, memory);
  cluster::sync();  // no block ends while another reads from it
}

}  // namespace

void estimate_mass(const Runtime& runtime, const StageParams& params) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  const uint32_t heads = params.step.row_count * cache.kv_heads;
  const uint32_t blocks = cluster_blocks(runtime, heads, plan.max_candidates, tuning::mass_block_candidates);
  launch(runtime, "rerank: mass", mass_kernel, {heads * blocks, kBlockThreads, 0, blocks},
         MassArguments{cache, plan, Codec(cache), params.step, params.layer,
                       1.0f / std::sqrt(static_cast<float>(cache.head_dim))});
}

}  // namespace pkv::cuda
