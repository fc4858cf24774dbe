// The first part of rerank where a KV head has one rotated query: estimates of the candidates from their codes
// (candidate_rows.cuh), which are their priorities. A lane keeps its part of the query in registers, and of the rows that it
// reads next several are under way while it works on one. The block counts the priorities of its span; for a K that is not
// large the top K are chosen then and there (rerank_choose.cuh).
#include "cuda/candidate_rows.cuh"
#include "cuda/launch.h"
#include "cuda/rerank_choose.cuh"
#include "cuda/rerank_stages.h"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kThreads = kBlockThreads;
constexpr uint32_t kAhead = tuning::estimate_one_ahead;

struct EstimateArguments {
  Cache cache;
  Plan plan;
  VoteScratch scratch;
  Codec codec;
  Step step;
  uint32_t layer;
  uint32_t spans;  // of each row and KV head
};

// A lane's share of the estimate. query: this lane's part, [kLaneDims].
__device__ float estimate_part(const CandidatePart& row, const float (&query)[kLaneDims], const float (&values)[kSigned]) {
  const uint8_t* const table = reinterpret_cast<const uint8_t*>(values);
  float sum = 0.0f;
#pragma unroll
  for (uint32_t b = 0; b < kLaneSubspaces; ++b) {
    // Byte offsets into the table, of every other code.
    const uint32_t even = row.code_word(b) << 2 & 0x3c3c3c3c, odd = row.code_word(b) >> 2 & 0x3c3c3c3c;
    float product = 0.0f;
#pragma unroll
    for (uint32_t j = 0; j < PKV_SUBSPACE_DIM; ++j) {
      const uint32_t offset = __byte_perm(j % 2 == 0 ? even : odd, 0, 0x4440 | j / 2);
      product += *reinterpret_cast<const float*>(table + offset) * query[b * PKV_SUBSPACE_DIM + j];
    }
    sum += row.weight(b) * product;
  }
  return sum;
}

// Grid: x = row and KV head, y = span of candidates.
template <uint32_t kHeadDim>
__global__ void __launch_bounds__(kThreads) estimate_one_kernel(const __grid_constant__ EstimateArguments a) {
  constexpr uint32_t kLanes = kHeadDim / kLaneDims;  // of one candidate
  constexpr uint32_t kStride = kThreads / kLanes;    // candidates side by side
  __shared__ float values[kSigned];
  __shared__ ChooseMemory memory;
  const Cache& cache = a.cache;
  const Plan& plan = a.plan;
  const uint32_t row_head = blockIdx.x, number = blockIdx.y;
  const uint32_t row = row_head / cache.kv_heads, head = row_head % cache.kv_heads;
  // A block of this size begins when those in front have left the multiprocessor, so it waits at once and then asks for what
  // leads to the first rows; the query, a lot to load for so many threads, comes while they do.
  wait_for_predecessor();
  const uint32_t count = candidates_of(plan, row_head);
  const StepRow step_row(cache, plan, a.layer, a.step, row);
  const Span span = span_of(count, tuning::span_candidates, a.spans, number);
  const Zone zone{cache, step_row.slot, a.layer, head};
  const uint32_t* const candidates = plan.candidates + size_t{row_head} * plan.max_candidates;
  float* const estimates = plan.estimates + size_t{row_head} * plan.max_candidates;
  float* const priorities = plan.priorities + size_t{row_head} * plan.max_candidates;

  // Whole warps go on together: where a candidate is missing, the span's last one stands in for it.
  const uint32_t of_warp = threadIdx.x / 32 * (32 / kLanes), of_lane = threadIdx.x / kLanes;
  const auto is_there = [&](uint32_t first) { return first + of_warp < span.end; };
  const auto key_of = [&](uint32_t first) { return candidates[min(first + of_lane, span.end - 1)]; };
  CandidatePart ahead[kAhead];
  uint32_t keys[kAhead + 1] = {};  // the last is the one whose row is asked for next
  if (is_there(span.begin)) {
#pragma unroll
    for (uint32_t i = 0; i <= kAhead; ++i) keys[i] = key_of(span.begin + i * kStride);
  }
  for (uint32_t bin = threadIdx.x; bin < kCountBins; bin += kThreads) memory.counts[bin] = 0;
  if (!step_row.is_searched()) return;
  if (is_there(span.begin)) {
    uint8_t* summaries[kAhead];
#pragma unroll
    for (uint32_t i = 0; i < kAhead; ++i) summaries[i] = zone.summary_of(keys[i]);
#pragma unroll
    for (uint32_t i = 0; i < kAhead; ++i) {
      if (is_there(span.begin + i * kStride)) ahead[i].load<kHeadDim>(zone, summaries[i], keys[i]);
    }
  }
  uint32_t coming = keys[kAhead];
  const uint32_t part = threadIdx.x % kLanes;
  float query[kLaneDims];
  const float4* const quads = reinterpret_cast<const float4*>(plan.rotated + size_t{row_head} * kHeadDim + part * kLaneDims);
#pragma unroll
  for (uint32_t i = 0; i < kLaneDims / 4; ++i) {
    const float4 quad = quads[i];
    query[4 * i] = quad.x, query[4 * i + 1] = quad.y, query[4 * i + 2] = quad.z, query[4 * i + 3] = quad.w;
  }
  load_values(a.codec, values);
  hold_tokens(a.scratch, candidates + span.begin, span.end - span.begin, memory);
  __syncthreads();

#pragma unroll 1
  for (uint32_t first = span.begin; is_there(first); first += kStride) {
    const CandidatePart current = ahead[0];
#pragma unroll
    for (uint32_t i = 0; i + 1 < kAhead; ++i) ahead[i] = ahead[i + 1];
    if (is_there(first + kAhead * kStride)) {
      ahead[kAhead - 1].load<kHeadDim>(zone, coming);
      coming = key_of(first + (kAhead + 1) * kStride);
    }
    const float estimate = sum_over_parts<kLanes>(estimate_part(current, query, values));
    const uint32_t at = first + of_lane;
    if (part != 0 || at >= span.end) continue;
    const float priority = finite_priority(estimate);
    const uint32_t ordered = ordered_key(priority);
    estimates[at] = estimate;
    priorities[at] = priority;
    if (at - span.begin < ChooseMemory::most_keys) memory.keys[at - span.begin] = ordered;
    atomicAdd(&memory.counts[priority_bin(ordered)], 1);
  }
  finish_priorities(plan, a.scratch, {row_head, cache.query_group, step_row.top_k, count, span, number, a.spans}, memory);
}

}  // namespace

void estimate_one_query(const Runtime& runtime, const StageParams& params) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  const uint32_t heads = params.step.row_count * cache.kv_heads, spans = priority_spans(plan, params.step.row_count);
  const EstimateArguments arguments{cache, plan, VoteScratch(plan), Codec(cache), params.step, params.layer, spans};
  const auto kernel = cache.head_dim == 64    ? estimate_one_kernel<64>
                      : cache.head_dim == 128 ? estimate_one_kernel<128>
                                              : estimate_one_kernel<256>;
  const bool overlaps = runtime.in_front == Verb::select;
  launch(runtime, "rerank: estimates", kernel, {dim3(heads, spans), kThreads, 0, 1, overlaps, MemoryDivision::most_cache},
         arguments);
}

}  // namespace pkv::cuda
