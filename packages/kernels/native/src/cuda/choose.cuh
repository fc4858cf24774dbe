// Choosing the largest of many integers by histogram, never by sorting, with the blocks of a cluster. Ties go to the smaller
// index and the output ascends. All sums are of integers, so nothing depends on their order or on the size of the cluster.
#pragma once
#include "cuda/cluster.cuh"

namespace pkv::cuda {

constexpr uint32_t kChooseThreads = 1024;
constexpr uint32_t kChooseBins = 2048;
static_assert(kChooseBins == 2 * kChooseThreads, "two bins a thread");

// What is above the bin is taken, and the first `quota` of what lies in it.
struct Cut { uint32_t bin, quota; };
struct Counts { uint32_t above, equal; };

struct ChooseMemory {
  uint32_t own[kChooseBins];    // this block's histogram
  uint32_t total[kChooseBins];  // that of the cluster
  uint32_t warp_totals[kChooseThreads / 32];
  Cut cut;
  Counts counts;  // of this block
  Counts before;  // of the blocks before it
};

// Sum of `value` over the threads before this one; `total`: over all. By the whole block.
__device__ inline uint32_t block_prefix(uint32_t value, uint32_t (&warp_totals)[kChooseThreads / 32], uint32_t& total) {
  constexpr uint32_t kAllLanes = 0xffffffffu;
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const auto inclusive = [&](uint32_t x) {
#pragma unroll
    for (uint32_t offset = 1; offset < 32; offset *= 2) {
      const uint32_t before = __shfl_up_sync(kAllLanes, x, offset);
      if (lane >= offset) x += before;
    }
    return x;
  };
  const uint32_t in_warp = inclusive(value);
  if (lane == 31) warp_totals[warp] = in_warp;
  __syncthreads();
  const uint32_t warps = inclusive(warp_totals[lane]);
  total = __shfl_sync(kAllLanes, warps, 31);
  const uint32_t warps_before = __shfl_sync(kAllLanes, warps, warp) - __shfl_sync(kAllLanes, warp_totals[lane], warp);
  __syncthreads();
  return warps_before + in_warp - value;
}

__device__ inline void clear_histogram(ChooseMemory& memory) {
  for (uint32_t bin = threadIdx.x; bin < kChooseBins; bin += kChooseThreads) memory.own[bin] = 0;
  __syncthreads();
}

// memory.total = the sum of all blocks' histograms; the cluster's second barrier lets each go on with its own.
__device__ inline void sum_histograms(ChooseMemory& memory) {
  cluster::sync();
  const uint32_t blocks = cluster::size();
  const uint32_t bin = 2 * threadIdx.x;
  uint2 sum = make_uint2(0, 0);
  for (uint32_t block = 0; block < blocks; ++block) {
    const uint2 pair = *reinterpret_cast<const uint2*>(cluster::at(memory.own, block) + bin);
    sum.x += pair.x;
    sum.y += pair.y;
  }
  *reinterpret_cast<uint2*>(memory.total + bin) = sum;
  cluster::sync();
}

// The cut that takes `wanted` of memory.total, or all of it where there are fewer; returns how many it takes.
__device__ inline uint32_t find_cut(ChooseMemory& memory, uint32_t wanted, Cut& cut) {
  const uint32_t upper = kChooseBins - 1 - 2 * threadIdx.x;
  const uint32_t in_upper = memory.total[upper], in_lower = memory.total[upper - 1];
  uint32_t total;
  const uint32_t above = block_prefix(in_upper + in_lower, memory.warp_totals, total);
  wanted = min(wanted, total);
  if (threadIdx.x == 0) memory.cut = {kChooseBins, 0};  // takes nothing
  __syncthreads();
  if (above < wanted && wanted <= above + in_upper) memory.cut = {upper, wanted - above};
  const uint32_t above_lower = above + in_upper;
  if (above_lower < wanted && wanted <= above_lower + in_lower) memory.cut = {upper - 1, wanted - above_lower};
  __syncthreads();
  cut = memory.cut;
  return wanted;
}

// What the blocks before this one hold above and at the threshold, from the counts of each block. By all blocks.
__device__ inline Counts counts_before(ChooseMemory& memory, Counts own) {
  if (threadIdx.x == 0) memory.counts = own;
  cluster::sync();
  if (threadIdx.x == 0) {
    Counts before{0, 0};
    for (uint32_t block = 0; block < cluster::rank(); ++block) {
      const Counts counts = *cluster::at(&memory.counts, block);
      before.above += counts.above;
      before.equal += counts.equal;
    }
    memory.before = before;
  }
  __syncthreads();
  return memory.before;
}

constexpr uint32_t kEqual = 1, kAbove = 1u << 16;

// Calls emit(place, index) for what is taken of the indices [begin, end): places count from `before` on. classify(first,
// classes) tells for kItems indices from `first` on whether each is above (kAbove), at (kEqual) or below (0) the threshold.
template <uint32_t kItems, class Classify, class Emit>
__device__ void compact(ChooseMemory& memory, uint32_t begin, uint32_t end, Counts before, uint32_t quota,
                        const Classify& classify, const Emit& emit) {
  static_assert(kItems * kChooseThreads < kAbove, "both counts of a round fit their half of a word");
  for (uint32_t round = begin; round < end; round += kItems * kChooseThreads) {
    const uint32_t first = round + threadIdx.x * kItems;
    uint32_t classes[kItems];
    classify(first, classes);
    uint32_t sum = 0, total;
#pragma unroll
    for (uint32_t i = 0; i < kItems; ++i) sum += classes[i];
    const uint32_t prefix = block_prefix(sum, memory.warp_totals, total);
    uint32_t above = before.above + prefix / kAbove, equal = before.equal + prefix % kAbove;
#pragma unroll
    for (uint32_t i = 0; i < kItems; ++i) {
      if (classes[i] == kAbove || (classes[i] == kEqual && equal < quota)) emit(above + min(equal, quota), first + i);
      above += classes[i] / kAbove;
      equal += classes[i] % kAbove;
    }
    before.above += total / kAbove;
    before.equal += total % kAbove;
  }
}

// The part [begin, end) of `count` indices that this block of the cluster works on, beginning at a multiple of `multiple`.
struct Share { uint32_t begin, end; };

__device__ inline Share share_of(uint32_t count, uint32_t multiple) {
  const uint32_t whole = (count + multiple - 1) / multiple;
  const uint32_t length = (whole + cluster::size() - 1) / cluster::size() * multiple;
  const uint32_t begin = min(cluster::rank() * length, count);
  return {begin, min(begin + length, count)};
}

}  // namespace pkv::cuda
