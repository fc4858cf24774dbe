// The last part of rerank: the top K of every KV head, by the kernel that makes the priorities. Each block takes the top K of
// its own span, or a few more, and leaves them as a list; the block of a row and KV head that is done last takes the top K of
// the lists, which is the top K of all. Both find the cut digit by digit: count the digits, see in which the K-th largest lies,
// go on with those that have it. Ties go to the smaller token and the output ascends. All sums are of integers: nothing depends
// on their order, on the number of spans or on which block is last.
#pragma once
#include <cmath>

#include "cuda/arrivals.cuh"
#include "cuda/ordered_key.cuh"
#include "cuda/overlap.cuh"
#include "cuda/priorities.cuh"
#include "cuda/spans.cuh"
#include "cuda/step_rows.cuh"

namespace pkv::cuda {

// The keys among which the cut lies: those with key >> shift == prefix. `above` are larger, `count` are among them.
struct PriorityCut { uint32_t prefix, shift, above, count; };

struct ChooseMemory {
  static constexpr uint32_t list_slots = 4096;

  alignas(8) uint32_t counts[kCountBins];  // of priorities by priority_bin(), of the span's at first; then of other digits
  uint32_t warp_totals[kBlockWarps];
  Counts warp_counts[kBlockWarps];
  uint32_t digit, above, count;
  alignas(16) uint32_t list_keys[list_slots];
};

namespace choose {

constexpr uint32_t kAllShift = 32;  // of the cut that has everything in it

// Where memory.counts has the digits of those that `cut` is among, one digit more of it: that of number `want`, from 1 on, by
// size. Bits below `shift` are not looked at yet. By the whole block, after a barrier.
__device__ inline PriorityCut with_digit(const PriorityCut& cut, uint32_t shift, uint32_t want, ChooseMemory& memory) {
  const uint32_t lower = kCountBins - 2 - 2 * threadIdx.x;  // two bins a thread, from the highest on
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
  return {cut.prefix << (cut.shift - shift) | memory.digit, shift, cut.above + memory.above, memory.count};
}

// Calls emit(place, i) for the `want` largest of the candidates i in [begin, end) in their order, or for all of those that the
// cut leaves undecided too, where there is `room` for them; returns for how many. key_of(i): the ordered key of a priority, or 0
// where there is no candidate. `cut` is one for `want`. By the whole block.
template <uint32_t kItems, class KeyOf, class Emit>
__device__ uint32_t take_largest(const KeyOf& key_of, uint32_t begin, uint32_t end, PriorityCut cut, uint32_t want, uint32_t room,
                                 ChooseMemory& memory, const Emit& emit) {
  const auto is_among = [&](uint32_t key) { return key != 0 && uint64_t{key} >> cut.shift == cut.prefix; };
#pragma unroll 1
  while (cut.shift > 0 && cut.above + cut.count > room) {
    const uint32_t shift = cut.shift > kTopShift ? kTopShift : cut.shift > kMiddleShift ? kMiddleShift : 0;
    for (uint32_t bin = threadIdx.x; bin < kCountBins; bin += kBlockThreads) memory.counts[bin] = 0;
    __syncthreads();
#pragma unroll 4
    for (uint32_t i = begin + threadIdx.x; i < end; i += kBlockThreads) {
      const uint32_t key = key_of(i);
      if (is_among(key)) atomicAdd(&memory.counts[key >> shift & ((1u << (cut.shift - shift)) - 1)], 1);
    }
    __syncthreads();
    cut = with_digit(cut, shift, want - cut.above, memory);
  }
  const uint32_t quota = min(cut.count, room - cut.above);
  compact<kItems>(
      memory.warp_counts, begin, end, {0, 0}, quota,
      [&](uint32_t first) {
        Classes classes{0, 0};
#pragma unroll
        for (uint32_t i = 0; i < kItems; ++i) {
          const uint32_t key = first + i < end ? key_of(first + i) : 0;
          const uint64_t prefix = uint64_t{key} >> cut.shift;
          if (prefix > cut.prefix) classes.above |= 1u << i;
          if (is_among(key)) classes.equal |= 1u << i;
        }
        return classes;
      },
      emit);
  return cut.above + quota;
}

// The top K of the lists of a row and KV head, [slots].
__device__ inline void take_from_lists(const uint32_t* keys, const uint32_t* tokens, uint32_t slots, uint32_t top_k,
                                       uint32_t* selected, ChooseMemory& memory) {
  const PriorityCut all{0, kAllShift, 0, slots};
  // Other blocks wrote them: they are not read through the first-level cache.
  const auto emit = [&](uint32_t place, uint32_t i) { selected[place] = __ldcg(tokens + i); };
  if (slots <= ChooseMemory::list_slots) {
    for (uint32_t i = 4 * threadIdx.x; i < slots; i += 4 * kBlockThreads) {
      *reinterpret_cast<uint4*>(memory.list_keys + i) = __ldcg(reinterpret_cast<const uint4*>(keys + i));
    }
    __syncthreads();
    take_largest<4>([&](uint32_t i) { return memory.list_keys[i]; }, 0, slots, all, top_k, top_k, memory, emit);
  } else {
    take_largest<4>([&](uint32_t i) { return __ldcg(keys + i); }, 0, slots, all, top_k, top_k, memory, emit);
  }
}

}  // namespace choose

// Selects the top K of a row and KV head. By every block that makes its priorities, once those of its span are written and
// counted in memory.counts, and the block has met. number: of the span, of `spans`. The row is searched.
__device__ inline void choose_top(const Cache& cache, const Plan& plan, const VoteScratch& scratch, uint32_t layer, int32_t slot,
                                  uint32_t row_head, const Span& span, uint32_t number, uint32_t spans, ChooseMemory& memory) {
  const int32_t budget = cache.budget_of(static_cast<size_t>(slot), layer)[PKV_BUDGET_TOP_K];
  const uint32_t top_k = min(static_cast<uint32_t>(max(budget, 0)), plan.max_top_k);
  const uint32_t count = candidates_of(plan, row_head);
  const uint32_t* const candidates = plan.candidates + size_t{row_head} * plan.max_candidates;
  const float* const priorities = plan.priorities + size_t{row_head} * plan.max_candidates;
  uint32_t* const selected = plan.selected + size_t{row_head} * plan.max_top_k;
  let_successor_begin();
  if (number == 0) {
    if (threadIdx.x == 0) plan.selected_count[row_head] = static_cast<int32_t>(min(count, top_k));
    if (!plan.estimate_mass && threadIdx.x < cache.query_group) {
      float* const stats = plan.stats + (size_t{row_head} * cache.query_group + threadIdx.x) * PKV_STATS_FIELDS;
      stats[PKV_STATS_LSE_UNSELECTED] = stats[PKV_STATS_LSE_OTHERS] = NAN;
    }
  }
  if (top_k == 0) return;
  if (count <= top_k) {
#pragma unroll 1
    for (uint32_t i = span.begin + threadIdx.x; i < span.end; i += kBlockThreads) selected[i] = candidates[i];
    return;
  }

  const uint32_t own_count = span.end - span.begin, want = min(own_count, top_k), slots = scratch.list_slots;
  const size_t first_slot = (size_t{row_head} * spans + number) * slots;
  uint32_t* const keys = scratch.list_keys + first_slot;
  uint32_t* const tokens = scratch.list_tokens + first_slot;
  PriorityCut cut{0, choose::kAllShift, 0, own_count};
  if (own_count > slots) cut = choose::with_digit(cut, kTopShift, want, memory);
  const auto key_of = [&](uint32_t i) { return ordered_key(priorities[i]); };
  const uint32_t listed = choose::take_largest<4>(key_of, span.begin, span.end, cut, want, slots, memory,
                                                  [&](uint32_t place, uint32_t i) {
                                                    keys[place] = key_of(i);
                                                    tokens[place] = candidates[i];
                                                  });
#pragma unroll 1
  for (uint32_t i = listed + threadIdx.x; i < slots; i += kBlockThreads) keys[i] = 0;
  if (!arrives_last(scratch.choice_arrivals + row_head, spans)) return;
  const size_t first = size_t{row_head} * spans * slots;
  choose::take_from_lists(scratch.list_keys + first, scratch.list_tokens + first, spans * slots, top_k, selected, memory);
}

}  // namespace pkv::cuda
