// The last part of rerank, for a K that is not large: the top K of every KV head, by the kernel that makes the priorities. Each
// block takes the top K of its own span, or a few more, and leaves them as a list; the block of a row and KV head that is done
// last takes the top K of the lists, which is the top K of all. (rerank_choose.cu has the choice of a large K.)
#pragma once
#include <cmath>

#include "cuda/arrivals.cuh"
#include "cuda/memory.cuh"
#include "cuda/overlap.cuh"
#include "cuda/spans.cuh"
#include "cuda/take_largest.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {

// A block's part in the choice of one row and KV head.
struct ChoiceShare {
  uint32_t row_head, query_group;
  uint32_t top_k, count;   // keys that are wanted, candidates that there are
  Span span;               // of the candidates: this block's
  uint32_t number, spans;  // its number, of so many
};

// What is selected of how many, and, where the plan wants no mass, that its statistics are not known. By one block of a row and
// KV head.
__device__ inline void write_choice(const Plan& plan, uint32_t row_head, uint32_t query_group, uint32_t count, uint32_t top_k) {
  if (threadIdx.x == 0) plan.selected_count[row_head] = static_cast<int32_t>(min(count, top_k));
  if (plan.estimate_mass || threadIdx.x >= query_group) return;
  float* const stats = plan.stats + (size_t{row_head} * query_group + threadIdx.x) * PKV_STATS_FIELDS;
  stats[PKV_STATS_LSE_UNSELECTED] = stats[PKV_STATS_LSE_OTHERS] = NAN;
}

namespace choose {

// The lists of a row and KV head, written by other blocks and so not read through the first-level cache.
struct Lists {
  const uint32_t *keys, *tokens;  // [slots]
  uint32_t slots;

  // Those that may be among the top K to memory, or all where half of it is room enough; returns how many, and a first cut.
  __device__ uint32_t load(Cut& cut, uint32_t top_k, ChooseMemory& memory) const {
    uint32_t loaded = slots;
    if (slots <= ChooseMemory::most_pairs) {
      uint32_t largest = 0;
#pragma unroll 4
      for (uint32_t i = 4 * threadIdx.x; i < slots; i += 4 * kBlockThreads) {
        const uint4 four = __ldcg(reinterpret_cast<const uint4*>(keys + i));
        *reinterpret_cast<uint4*>(memory.keys + i) = four;
        *reinterpret_cast<uint4*>(memory.tokens() + i) = __ldcg(reinterpret_cast<const uint4*>(tokens + i));
        largest = max(max(largest, max(four.x, four.y)), max(four.z, four.w));
      }
      largest = __reduce_max_sync(kAllLanes, largest);
      if (threadIdx.x % 32 == 0) memory.warp_totals[threadIdx.x / 32] = largest;
      __syncthreads();
      largest = __reduce_max_sync(kAllLanes, memory.warp_totals[threadIdx.x % 32]);
      cut = Cut::near_largest(largest, slots);
    } else {
      cut = Cut::everything(slots);
      const auto key_of = [&](uint32_t i) { return __ldcg(keys + i); };
      loaded = take_largest(key_of, slots, cut, top_k, ChooseMemory::most_pairs, memory, [&](uint32_t place, uint32_t i) {
        memory.keys[place] = __ldcg(keys + i);
        memory.tokens()[place] = __ldcg(tokens + i);
      });
      __syncthreads();
    }
    return loaded;
  }
};

}  // namespace choose

// For a block whose span of `count` candidates begins here: starts the copies of its tokens to memory, if it will choose and
// there is room.
__device__ inline void hold_tokens(const VoteScratch& scratch, const uint32_t* candidates, uint32_t count,
                                   ChooseMemory& memory) {
  if (!scratch.chooses_at_once || count > ChooseMemory::most_pairs) return;
#pragma unroll 1
  for (uint32_t i = threadIdx.x; i < count; i += kBlockThreads) copy_async(memory.tokens() + i, candidates + i);
}

// Selects the top K. By every block that makes priorities, once the block has met.
__device__ inline void choose_top(const Plan& plan, const VoteScratch& scratch, const ChoiceShare& share, ChooseMemory& memory) {
  const auto [row_head, query_group, top_k, count, span, number, spans] = share;
  let_successor_begin();
  if (number == 0) write_choice(plan, row_head, query_group, count, top_k);
  if (top_k == 0) return;
  const uint32_t own_count = span.end - span.begin;
  const uint32_t* const candidates = plan.candidates + size_t{row_head} * plan.max_candidates + span.begin;
  uint32_t* const selected = plan.selected + size_t{row_head} * plan.max_top_k;
  if (count <= top_k) {
    for (uint32_t i = threadIdx.x; i < own_count; i += kBlockThreads) selected[span.begin + i] = candidates[i];
    return;
  }

  const uint32_t slots = min(scratch.list_slots, longest_span(count, tuning::span_candidates, spans));
  const size_t first_slot = size_t{row_head} * spans * scratch.list_slots, own_slot = first_slot + size_t{number} * slots;
  uint32_t *to_keys = scratch.list_keys + own_slot, *to_tokens = scratch.list_tokens + own_slot;
  uint32_t held = own_count, want = min(own_count, top_k), room = slots, taken = 0;
  bool has_tokens = own_count <= ChooseMemory::most_pairs;
  Cut cut = Cut::everything(own_count);
  if (own_count > slots) cut = with_digit({0, UINT32_MAX, 0, own_count}, kTopShift, want, memory);

  uint32_t turn = 0;
  if (own_count > ChooseMemory::most_keys) {
    const float* const priorities = plan.priorities + size_t{row_head} * plan.max_candidates + span.begin;
    const auto key_of = [&](uint32_t i) { return ordered_key(priorities[i]); };
    taken = take_largest(key_of, own_count, cut, want, room, memory, [&](uint32_t place, uint32_t i) {
      to_keys[place] = key_of(i);
      to_tokens[place] = candidates[i];
    });
    turn = 1;
  }
  // The span, then the lists, by the same instructions: the second time they are near.
#pragma unroll 1
  for (; turn < 2; ++turn) {
    if (turn == 1) {
#pragma unroll 1
      for (uint32_t i = taken + threadIdx.x; i < slots; i += kBlockThreads) to_keys[i] = 0;
      if (!arrives_last(scratch.choice_arrivals + row_head, spans)) return;
      const choose::Lists lists{scratch.list_keys + first_slot, scratch.list_tokens + first_slot, spans * slots};
      held = lists.load(cut, top_k, memory);
      want = room = top_k;
      has_tokens = true;
      to_keys = nullptr;
      to_tokens = selected;
    }
    const auto key_of = [&](uint32_t i) { return memory.keys[i]; };
    taken = take_largest(key_of, held, cut, want, room, memory, [&](uint32_t place, uint32_t i) {
      if (to_keys != nullptr) to_keys[place] = memory.keys[i];
      to_tokens[place] = has_tokens ? memory.tokens()[i] : candidates[i];
    });
  }
}

// What a block that makes priorities does last: once those of its span are counted in memory.counts and lie in
// plan.priorities and, if there is room, in memory.keys. By the whole block.
__device__ inline void finish_priorities(const Plan& plan, const VoteScratch& scratch, const ChoiceShare& share,
                                         ChooseMemory& memory) {
  await_async_copies();
  __syncthreads();
  if (scratch.chooses_at_once) return choose_top(plan, scratch, share, memory);
  const size_t span = size_t{share.row_head} * share.spans + share.number;
  write_reaching(memory.counts, memory.warp_totals, scratch.priority_counts + span * kCountBins);
}

}  // namespace pkv::cuda
