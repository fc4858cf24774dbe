// The second part of rerank where a KV head has several rotated queries: the queries' softmax-normalised estimates combined
// to one priority a candidate (docs/mathematics.md §4). Reads the estimates, 4 bytes a candidate and query, from the second-level
// cache. Every block joins the sums of all tiles anew, which is less than waiting for another. For a K that is not large the
// top K are chosen then and there (rerank_choose.cuh).
#include <cmath>

#include "cuda/launch.h"
#include "cuda/rerank_choose.cuh"
#include "cuda/rerank_stages.h"
#include "cuda/step_rows.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kMaxQueries = 8;
constexpr uint32_t kQueryWarps = kBlockWarps / kMaxQueries;

struct PrioritizeArguments {
  Cache cache;
  Plan plan;
  VoteScratch scratch;
  Step step;
  uint32_t layer;
  uint32_t spans;  // of each row and KV head
  float scale;     // 1 / sqrt(head_dim)
};

struct Memory {
  ChooseMemory choose;
  LogSum warp_sums[kBlockWarps];
  float log_sums[kMaxQueries];  // log-sum-exp of scale * estimate; NaN for a query without a finite estimate
};

// memory.log_sums, from those of the tiles: [queries, most_tiles]. By the whole block.
__device__ void join_tiles(const LogSum* tile_sums, uint32_t queries, uint32_t tiles, uint32_t most_tiles, Memory& memory) {
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, query = warp / kQueryWarps;
  LogSum sum{-INFINITY, 0.0f};
  if (query < queries) {
#pragma unroll 4
    for (uint32_t tile = warp % kQueryWarps * 32 + lane; tile < tiles; tile += kQueryWarps * 32) {
      sum = joined(sum, tile_sums[size_t{query} * most_tiles + tile]);
    }
#pragma unroll
    for (uint32_t offset = 16; offset > 0; offset /= 2) {
      sum = joined(sum, {__shfl_xor_sync(kAllLanes, sum.largest, offset), __shfl_xor_sync(kAllLanes, sum.sum, offset)});
    }
  }
  if (lane == 0) memory.warp_sums[warp] = sum;
  __syncthreads();
  if (threadIdx.x < queries) {
    LogSum all = memory.warp_sums[threadIdx.x * kQueryWarps];
    for (uint32_t i = 1; i < kQueryWarps; ++i) all = joined(all, memory.warp_sums[threadIdx.x * kQueryWarps + i]);
    memory.log_sums[threadIdx.x] = all.largest == -INFINITY ? NAN : all.largest + logf(all.sum);
  }
  __syncthreads();
}

// estimates: of one candidate, `stride` apart from query to query.
__device__ float priority_of(const float* estimates, size_t stride, uint32_t queries, Group group, float scale,
                             const float* log_sums) {
  const bool adds = group == Group::sum;
  float priority = adds ? 0.0f : -INFINITY;
#pragma unroll
  for (uint32_t h = 0; h < kMaxQueries; ++h) {
    if (h >= queries || isnan(log_sums[h])) continue;  // a query without a finite estimate has no say
    const float share = scale * estimates[h * stride] - log_sums[h];
    if (adds) {
      priority += expf(share);
    } else if (share > priority) {
      priority = share;
    }
  }
  return finite_priority(priority);
}

// Grid: x = row and KV head, y = span of candidates.
__global__ void __launch_bounds__(kBlockThreads) prioritize_kernel(const __grid_constant__ PrioritizeArguments a) {
  __shared__ Memory memory;
  const Plan& plan = a.plan;
  const uint32_t row_head = blockIdx.x, number = blockIdx.y, queries = plan.rotated_queries;
  const StepRow step_row(a.cache, plan, a.layer, a.step, row_head / a.cache.kv_heads);
  const uint32_t count = candidates_of(plan, row_head);
  for (uint32_t bin = threadIdx.x; bin < kCountBins; bin += kBlockThreads) memory.choose.counts[bin] = 0;
  wait_for_predecessor();
  if (!a.scratch.chooses_at_once) let_successor_begin();
  if (!step_row.is_searched()) return;
  const uint32_t tile = VoteScratch::tile_candidates(a.cache.head_dim);
  const Span span = span_of(count, tuning::span_candidates, a.spans, number);
  hold_tokens(a.scratch, plan.candidates + size_t{row_head} * plan.max_candidates + span.begin, span.end - span.begin,
              memory.choose);
  join_tiles(a.scratch.log_sums + size_t{row_head} * queries * a.scratch.most_tiles, queries, (count + tile - 1) / tile,
             a.scratch.most_tiles, memory);

  const float* const estimates = plan.estimates + size_t{row_head} * queries * plan.max_candidates;
  float* const priorities = plan.priorities + size_t{row_head} * plan.max_candidates;
  for (uint32_t i = span.begin + threadIdx.x; i < span.end; i += kBlockThreads) {
    const float priority = priority_of(estimates + i, plan.max_candidates, queries, plan.group, a.scale, memory.log_sums);
    const uint32_t ordered = ordered_key(priority);
    priorities[i] = priority;
    if (i - span.begin < ChooseMemory::most_keys) memory.choose.keys[i - span.begin] = ordered;
    atomicAdd(&memory.choose.counts[priority_bin(ordered)], 1);
  }
  finish_priorities(plan, a.scratch, {row_head, a.cache.query_group, step_row.top_k, count, span, number, a.spans},
                    memory.choose);
}

}  // namespace

void prioritize(const Runtime& runtime, const StageParams& params) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  const uint32_t heads = params.step.row_count * cache.kv_heads, spans = priority_spans(plan, params.step.row_count);
  launch(runtime, "rerank: priorities", prioritize_kernel, {dim3(heads, spans), kBlockThreads, 0, 1, true},
         PrioritizeArguments{cache, plan, VoteScratch(plan), params.step, params.layer, spans,
                             1.0f / std::sqrt(static_cast<float>(cache.head_dim))});
}

}  // namespace pkv::cuda
