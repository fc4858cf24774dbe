// The largest of some priorities, in the order of their candidates. The cut is found digit by digit: count the digits, see in
// which the K-th largest lies, go on with those that have it. Ties go to the earlier candidate. All sums are of integers, so
// nothing depends on their order.
#pragma once
#include "cuda/compact.cuh"
#include "cuda/ordered_key.cuh"
#include "cuda/priorities.cuh"

namespace pkv::cuda {

struct ChooseMemory {
  static constexpr uint32_t most_keys = 8192, most_pairs = most_keys / 2;

  alignas(8) uint32_t counts[kCountBins];  // of priorities by priority_bin(), of the span's at first; then of other digits
  uint32_t warp_totals[kBlockWarps];
  Counts warp_counts[kBlockWarps];
  uint32_t digit, above, count;
  // Ordered keys of priorities: those of a span, where it has no more. Where half of this is enough for them, their tokens lie
  // in the other half. Later those of lists, in the same way.
  alignas(16) uint32_t keys[most_keys];

  __device__ uint32_t* tokens() { return keys + most_pairs; }
};

// The keys among which a cut lies: low .. last, both of them too. `above` are larger, at most `count` are among them. 0 is the
// key of no candidate.
struct Cut {
  uint32_t low, last, above, count;

  static __device__ Cut everything(uint32_t count) { return {1, UINT32_MAX, 0, count}; }
  // Keys of at least a quarter of the largest priority, if that is positive: nearly always a cut among the largest of all is
  // here, and digits of these keys tell more of them apart than digits of everything.
  static __device__ Cut near_largest(uint32_t largest, uint32_t count) {
    constexpr uint32_t kWidth = 1u << 24;  // two exponents of a float
    return {largest > kWidth ? largest - (kWidth - 1) : 1, largest, 0, count};
  }
  // The keys of a bin of first digits, of which so many are in it and above it.
  static __device__ Cut of_bin(uint32_t bin, uint32_t above, uint32_t count) {
    return {bin << kTopShift, (bin << kTopShift) + ((1u << kTopShift) - 1), above, count};
  }

  __device__ bool takes(uint32_t key) const { return key > last; }
  __device__ bool is_among(uint32_t key) const { return key - low <= last - low; }
  // The digit of one of them is (key - low) >> shift(), below kCountBins.
  __device__ uint32_t shift() const { return max(32 - kDigitBits, __clz(last - low)) - __clz(last - low); }
};

// The cut among those of `cut` that have one digit: that of number `want`, from 1 on, by size; memory.counts has the digits of
// all of them, with this shift. If they are fewer than `want`, the cut lies below them. By the whole block, after a barrier.
__device__ inline Cut with_digit(const Cut& cut, uint32_t shift, uint32_t want, ChooseMemory& memory) {
  const uint32_t lower = kCountBins - 2 - 2 * threadIdx.x;  // two bins a thread, from the highest down
  const uint2 counts = *reinterpret_cast<const uint2*>(memory.counts + lower);
  uint32_t total;
  const uint32_t above_upper = block_prefix(counts.x + counts.y, memory.warp_totals, total);
  const uint32_t above_lower = above_upper + counts.y;
  if (above_upper < want && want <= above_lower + counts.x) {
    const bool is_lower = want > above_lower;
    memory.digit = is_lower ? lower : lower + 1;
    memory.above = is_lower ? above_lower : above_upper;
    memory.count = is_lower ? counts.x : counts.y;
  }
  __syncthreads();
  if (total < want) return {1, cut.low - 1, cut.above + total, cut.count - total};
  const uint32_t low = cut.low + (memory.digit << shift);
  return {low, low + min((1u << shift) - 1, cut.last - low), cut.above + memory.above, memory.count};
}

// Calls emit(place, i) in order for the `want` largest of the candidates i below `end`, or for all of those that the cut leaves
// undecided too, where there is `room` for them; returns for how many. key_of(i): the ordered key of a priority, or 0 where there
// is no candidate. `cut` is one for `want`, and is drawn as close as need be. By the whole block.
template <class KeyOf, class Emit>
__device__ uint32_t take_largest(const KeyOf& key_of, uint32_t end, Cut& cut, uint32_t want, uint32_t room, ChooseMemory& memory,
                                 const Emit& emit) {
#pragma unroll 1
  while (cut.low < cut.last && cut.above + cut.count > room) {
    const uint32_t shift = cut.shift();
    for (uint32_t bin = threadIdx.x; bin < kCountBins; bin += kBlockThreads) memory.counts[bin] = 0;
    __syncthreads();
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < end; i += kBlockThreads) {
      const uint32_t key = key_of(i);
      if (cut.is_among(key)) atomicAdd(&memory.counts[(key - cut.low) >> shift], 1);
    }
    __syncthreads();
    cut = with_digit(cut, shift, want - cut.above, memory);
  }

  // Every warp lists a run of its own, 32 candidates a round.
  const uint32_t quota = min(cut.count, room - cut.above);
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, earlier_lanes = (1u << lane) - 1;
  const uint32_t rounds = (end + 31) / 32, warp_rounds = (rounds + kBlockWarps - 1) / kBlockWarps;
  const uint32_t first_round = min(warp * warp_rounds, rounds), end_round = min(first_round + warp_rounds, rounds);
  const auto classes_of = [&](uint32_t round) {  // a bit a lane
    const uint32_t i = round * 32 + lane, key = i < end ? key_of(i) : 0;
    return Classes{__ballot_sync(kAllLanes, cut.takes(key)), __ballot_sync(kAllLanes, cut.is_among(key))};
  };
  Counts before{0, 0};
#pragma unroll 4
  for (uint32_t round = first_round; round < end_round; ++round) {
    const Classes classes = classes_of(round);
    before.above += __popc(classes.above);
    before.equal += __popc(classes.equal);
  }
  if (lane == 0) memory.warp_counts[warp] = before;
  __syncthreads();
  const Counts of_lane = lane < warp ? memory.warp_counts[lane] : Counts{0, 0};
  before = {__reduce_add_sync(kAllLanes, of_lane.above), __reduce_add_sync(kAllLanes, of_lane.equal)};
#pragma unroll 4
  for (uint32_t round = first_round; round < end_round; ++round) {
    const Classes classes = classes_of(round);
    const uint32_t above = before.above + __popc(classes.above & earlier_lanes);
    const uint32_t equal = before.equal + __popc(classes.equal & earlier_lanes);
    const bool is_taken = (classes.above >> lane & 1) != 0 || ((classes.equal >> lane & 1) != 0 && equal < quota);
    if (is_taken) emit(above + min(equal, quota), round * 32 + lane);
    before.above += __popc(classes.above);
    before.equal += __popc(classes.equal);
  }
  return cut.above + quota;
}

}  // namespace pkv::cuda
