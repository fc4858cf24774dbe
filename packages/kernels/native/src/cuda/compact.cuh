// Collective work of a block of 1024 threads on counts: prefix sums, and listing chosen indices in their order.
#pragma once
#include <cstdint>

namespace pkv::cuda {

constexpr uint32_t kBlockThreads = 1024;
constexpr uint32_t kBlockWarps = kBlockThreads / 32;
constexpr uint32_t kAllLanes = 0xffffffffu;

// Sum of `value` over the lanes up to this one.
__device__ inline uint32_t inclusive_prefix(uint32_t value) {
  const uint32_t lane = threadIdx.x % 32;
#pragma unroll
  for (uint32_t offset = 1; offset < 32; offset *= 2) {
    const uint32_t before = __shfl_up_sync(kAllLanes, value, offset);
    if (lane >= offset) value += before;
  }
  return value;
}

// Sum of `value` over the threads before this one; `total`: over all. By the whole block.
__device__ inline uint32_t block_prefix(uint32_t value, uint32_t (&warp_totals)[kBlockWarps], uint32_t& total) {
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t in_warp = inclusive_prefix(value);
  if (lane == 31) warp_totals[warp] = in_warp;
  __syncthreads();
  const uint32_t of_lane = warp_totals[lane];
  total = __reduce_add_sync(kAllLanes, of_lane);
  const uint32_t warps_before = __reduce_add_sync(kAllLanes, lane < warp ? of_lane : 0);
  __syncthreads();
  return warps_before + in_warp - value;
}

struct Counts { uint32_t above, equal; };  // to a threshold

// Of some neighbouring indices, bit i for number i: which are above the threshold and which are at it.
struct Classes { uint32_t above, equal; };

struct CompactMemory {
  static constexpr uint32_t kept_rounds = 8;

  Counts warp_counts[kBlockWarps];
  uint16_t kept[kept_rounds][kBlockThreads];  // Classes of each thread, eight bits each
};

// Calls emit(place, index) for what is taken of the indices [begin, end): all above the threshold, and of those at it the
// first `quota` of all; `before` counts what comes before `begin`. classify(first) tells about kItems indices from `first` on,
// and nothing about those from `end` on. Every warp has a run of the indices of its own and goes over it twice, once to count;
// what it kept of the first time it need not ask again. By the whole block; the memory is free again after the block's next
// barrier.
template <uint32_t kItems, class Classify, class Emit>
__device__ void compact(CompactMemory& memory, uint32_t begin, uint32_t end, Counts before, uint32_t quota,
                        const Classify& classify, const Emit& emit) {
  static_assert(kItems <= 8, "the classes of a thread's items fit two bytes");
  constexpr uint32_t kWarpItems = 32 * kItems;
  constexpr uint32_t kAboveUnit = 1u << 16;  // both counts in a word
  static_assert(kWarpItems < kAboveUnit, "the counts of a round fit their half of a word");
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t rounds = (end - begin + kWarpItems - 1) / kWarpItems;
  const uint32_t warp_rounds = (rounds + kBlockWarps - 1) / kBlockWarps;
  const uint32_t first_round = min(warp * warp_rounds, rounds), end_round = min(first_round + warp_rounds, rounds);
  const auto index_of = [&](uint32_t round) { return begin + round * kWarpItems + lane * kItems; };

  Counts own{0, 0};
#pragma unroll 4  // so many loads are under way; what is short stays among the instructions that are near
  for (uint32_t round = first_round; round < end_round; ++round) {
    const Classes classes = classify(index_of(round));
    own.above += __popc(classes.above);
    own.equal += __popc(classes.equal);
    const uint32_t number = round - first_round;
    if (number < CompactMemory::kept_rounds) {
      memory.kept[number][threadIdx.x] = static_cast<uint16_t>(classes.above | classes.equal << 8);
    }
  }
  own.above = __reduce_add_sync(kAllLanes, own.above);
  own.equal = __reduce_add_sync(kAllLanes, own.equal);
  if (lane == 0) memory.warp_counts[warp] = own;
  __syncthreads();
  const Counts of_lane = lane < warp ? memory.warp_counts[lane] : Counts{0, 0};
  before.above += __reduce_add_sync(kAllLanes, of_lane.above);
  before.equal += __reduce_add_sync(kAllLanes, of_lane.equal);

#pragma unroll 1
  for (uint32_t round = first_round; round < end_round; ++round) {
    const uint32_t number = round - first_round;
    Classes classes;
    if (number < CompactMemory::kept_rounds) {
      const uint32_t kept = memory.kept[number][threadIdx.x];
      classes = {kept & 0xff, kept >> 8};
    } else {
      classes = classify(index_of(round));
    }
    const uint32_t sum = __popc(classes.above) * kAboveUnit + __popc(classes.equal);
    const uint32_t through = inclusive_prefix(sum), prefix = through - sum;
    uint32_t above = before.above + prefix / kAboveUnit, equal = before.equal + prefix % kAboveUnit;
#pragma unroll 1
    for (uint32_t left = classes.above | classes.equal; left != 0; left &= left - 1) {
      const bool is_above = (classes.above & left & -left) != 0;
      if (is_above || equal < quota) emit(above + min(equal, quota), index_of(round) + __ffs(left) - 1);
      above += is_above ? 1 : 0;
      equal += is_above ? 0 : 1;
    }
    __syncwarp();
    const uint32_t of_round = __shfl_sync(kAllLanes, through, 31);
    before.above += of_round / kAboveUnit;
    before.equal += of_round % kAboveUnit;
  }
}

}  // namespace pkv::cuda
