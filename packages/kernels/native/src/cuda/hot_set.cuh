// The hot set of one slot, layer and KV head: lines on the device that hold records which attention fetched before. It is
// 4-way set-associative: zone token t may lie in the lines of set t mod sets. Records never change, so nothing ever makes a
// line wrong; tags are cleared when a slot is given to another sequence.
#pragma once
#include "core/operators.h"

namespace pkv::cuda {

constexpr uint32_t kHotWays = 4;
constexpr uint32_t kMostHotSets = PKV_MOST_HOT_LINES / kHotWays;
constexpr uint32_t kMostHotKeys = 4096;  // of a step; further ones are read where their pages lie

// Where attend finds a selected key, and whether it keeps the record.
struct HotPlace {
  uint32_t bits;

  static constexpr uint32_t kFillBit = 1u << 31, kNone = 0xffffffffu;
  static __device__ HotPlace none() { return {kNone}; }                            // in its page
  static __device__ HotPlace hit(uint32_t line) { return {line}; }                 // in this line
  static __device__ HotPlace fill(uint32_t line) { return {line | kFillBit}; }     // in its page, to be copied to this line
  __device__ bool is_none() const { return bits == kNone; }
  __device__ bool is_hit() const { return bits < kFillBit; }
  __device__ bool is_fill() const { return bits >= kFillBit && bits != kNone; }
  __device__ uint32_t line() const { return bits & ~kFillBit; }
};

struct HotSetMemory {
  uint32_t used[kMostHotSets];    // by set: a bit for each way that a key of this step has
  uint32_t claims[kMostHotSets];  // by set: the key that may take a way now
  uint32_t places[kMostHotKeys];
  uint32_t hits;
};

// Finds a place for each of selected [count], the keys of one step, writes places [count], and gives the number of hits. tags:
// [lines]. By all threads of a block; nobody else touches the tags meanwhile.
//
// Hits keep their lines. Then, in at most four rounds, the first key of each set that has none takes a way that no key of this
// step has. Bits and smallest indices depend on no order, so neither do the places.
__device__ inline uint32_t find_hot_places(HotSetMemory& memory, const uint32_t* selected, uint32_t count, uint32_t lines,
                                           uint32_t* tags, uint32_t* places) {
  const uint32_t sets = lines / kHotWays, with_place = min(count, kMostHotKeys);
  for (uint32_t set = threadIdx.x; set < sets; set += blockDim.x) {
    memory.used[set] = 0;
    memory.claims[set] = 0xffffffffu;
  }
  if (threadIdx.x == 0) memory.hits = 0;
  __syncthreads();

  for (uint32_t i = threadIdx.x; i < with_place; i += blockDim.x) {
    const uint32_t key = selected[i], set = key % sets;
    const uint4 four = __ldcg(reinterpret_cast<const uint4*>(tags) + set);
    const uint32_t tag = key + 1;
    const uint32_t way = four.x == tag ? 0 : four.y == tag ? 1 : four.z == tag ? 2 : four.w == tag ? 3 : kHotWays;
    const bool is_hit = way < kHotWays;
    memory.places[i] = (is_hit ? HotPlace::hit(set * kHotWays + way) : HotPlace::none()).bits;
    if (!is_hit) continue;
    atomicOr(&memory.used[set], 1u << way);
    atomicAdd(&memory.hits, 1u);
  }
  __syncthreads();

  constexpr uint32_t kAllWays = (1u << kHotWays) - 1;
  for (uint32_t round = 0; round < kHotWays; ++round) {
    // A claim of a later round is below those of the earlier ones, so nothing has to be cleared.
    const uint32_t claim = (kHotWays - 1 - round) << 16;
    static_assert(kMostHotKeys <= 1u << 16, "the index of a key lies below");
    const auto is_without = [&](uint32_t i) { return HotPlace{memory.places[i]}.is_none(); };
    bool claims = false;
    for (uint32_t i = threadIdx.x; i < with_place; i += blockDim.x) {
      const uint32_t set = selected[i] % sets;
      if (!is_without(i) || memory.used[set] == kAllWays) continue;
      atomicMin(&memory.claims[set], claim | i);
      claims = true;
    }
    if (__syncthreads_or(claims) == 0) break;
    for (uint32_t i = threadIdx.x; i < with_place; i += blockDim.x) {
      const uint32_t key = selected[i], set = key % sets;
      if (!is_without(i) || memory.claims[set] != (claim | i)) continue;
      const uint32_t used = memory.used[set];
      uint32_t way = key / sets % kHotWays;  // keys of a set begin at different ways: no way is always the one that goes
      while ((used >> way & 1) != 0) way = (way + 1) % kHotWays;
      memory.used[set] = used | 1u << way;
      memory.places[i] = HotPlace::fill(set * kHotWays + way).bits;
      tags[set * kHotWays + way] = key + 1;
    }
    __syncthreads();
  }
  for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
    places[i] = i < with_place ? memory.places[i] : HotPlace::none().bits;
  }
  return memory.hits;
}

}  // namespace pkv::cuda
