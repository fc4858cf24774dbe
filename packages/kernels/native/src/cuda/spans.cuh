// Spans of tokens or candidates, their counts, and the cut that follows from them (vote_scratch.h).
#pragma once
#include "cuda/compact.cuh"
#include "cuda/vote_scratch.h"

namespace pkv::cuda {

struct Span { uint32_t begin, end; };

// Of `spans` nearly equal parts of `count` indices, those from number `first` up to `end`. All but the last part end at
// multiples of `unit`.
__device__ inline Span spans_of(uint32_t count, uint32_t unit, uint32_t spans, uint32_t first, uint32_t end) {
  const uint32_t units = (count + unit - 1) / unit;  // times at most some hundred spans: 32 bits hold it
  const auto at = [&](uint32_t number) { return min(units * number / spans * unit, count); };
  return {at(first), at(end)};
}

__device__ inline Span span_of(uint32_t count, uint32_t unit, uint32_t spans, uint32_t number) {
  return spans_of(count, unit, spans, number, number + 1);
}

// At least the length of any of them.
__device__ inline uint32_t longest_span(uint32_t count, uint32_t unit, uint32_t spans) {
  const uint32_t units = (count + unit - 1) / unit;
  return (units + spans - 1) / spans * unit;
}

// Leaves in `to` [kCountBins], for every bin, how many of this span reach it. counts: [kCountBins], in shared memory, aligned
// to 8 bytes, complete before the block's last barrier.
__device__ inline void write_reaching(const uint32_t* counts, uint32_t (&warp_totals)[kBlockWarps], uint32_t* to) {
  static_assert(kCountBins == 2 * kBlockThreads, "two bins a thread, from the highest down");
  const uint32_t lower = kCountBins - 2 - 2 * threadIdx.x;
  const uint2 own = *reinterpret_cast<const uint2*>(counts + lower);
  uint32_t total;
  const uint32_t reaching_upper = block_prefix(own.x + own.y, warp_totals, total) + own.y;
  *reinterpret_cast<uint2*>(to + lower) = make_uint2(reaching_upper + own.x, reaching_upper);
}

// What is taken of all spans of a row and KV head: everything above `bin`, and the first `taken - above` of what lies in it.
struct SpanCut {
  uint32_t bin, taken;
  uint32_t above, reaching;  // above the bin; above or in it
  Counts before;             // above the bin and in it, in the spans before this block's first
};

struct CutMemory {
  uint32_t groups[kCountBins / 32];                       // reaching the first bin of every 32
  uint32_t reaching[32], above[32];                       // each bin of the group that has the cut: all spans,
  uint32_t reaching_before[32], above_before[32];         // and those before this block's first
};

// The cut that takes `wanted`, or everything where there is less. reaching: [spans, kCountBins], as write_reaching leaves
// them; first_span: this block's. By the whole block, with the same result in every thread.
__device__ inline SpanCut find_cut(const uint32_t* reaching, uint32_t spans, uint32_t first_span, uint32_t wanted,
                                   CutMemory& memory) {
  constexpr uint32_t kGroups = kCountBins / 32;
  static_assert(sizeof(CutMemory) == (kGroups + 4 * 32) * sizeof(uint32_t), "a table of words");
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (threadIdx.x < sizeof(CutMemory) / sizeof(uint32_t)) reinterpret_cast<uint32_t*>(&memory)[threadIdx.x] = 0;
  __syncthreads();
  uint32_t sum = 0;
#pragma unroll 1  // rarely more than one
  for (uint32_t span = threadIdx.x / kGroups; span < spans; span += kBlockThreads / kGroups) {
    sum += reaching[size_t{span} * kCountBins + threadIdx.x % kGroups * 32];
  }
  if (sum > 0) atomicAdd(&memory.groups[threadIdx.x % kGroups], sum);
  __syncthreads();
  const uint32_t taken = min(wanted, memory.groups[0]);
  if (taken == 0) return {kCountBins, 0, 0, 0, {0, 0}};

  // Sums over spans fall from bin to bin: the cut is in the last group, and at the last bin, that `taken` reach.
  const uint32_t group = __popc(__ballot_sync(kAllLanes, memory.groups[lane] >= taken)) +
                         __popc(__ballot_sync(kAllLanes, memory.groups[32 + lane] >= taken)) - 1;
  uint32_t own[4] = {};
#pragma unroll 1
  for (uint32_t span = warp; span < spans; span += kBlockWarps) {
    const uint32_t* const bins = reaching + size_t{span} * kCountBins + group * 32;
    const uint32_t here = bins[lane];
    uint32_t above = __shfl_down_sync(kAllLanes, here, 1);
    if (lane == 31) above = group + 1 < kGroups ? bins[32] : 0;
    own[0] += here;
    own[1] += above;
    if (span >= first_span) continue;
    own[2] += here;
    own[3] += above;
  }
  if (own[0] > 0) atomicAdd(&memory.reaching[lane], own[0]);
  if (own[1] > 0) atomicAdd(&memory.above[lane], own[1]);
  if (own[2] > 0) atomicAdd(&memory.reaching_before[lane], own[2]);
  if (own[3] > 0) atomicAdd(&memory.above_before[lane], own[3]);
  __syncthreads();
  const uint32_t at = __popc(__ballot_sync(kAllLanes, memory.reaching[lane] >= taken)) - 1;
  return {group * 32 + at, taken, memory.above[at], memory.reaching[at],
          {memory.above_before[at], memory.reaching_before[at] - memory.above_before[at]}};
}

}  // namespace pkv::cuda
