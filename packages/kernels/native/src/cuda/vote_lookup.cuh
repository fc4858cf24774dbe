// The look-up of votes in shared memory, where 32 lanes with random ids would wait for each other's banks. So a table is kept
// in as many copies as fit, word by word side by side, and lane l looks into copy l % copies: with 32 copies every lane has a
// bank of its own. Up to four tables share a word, one byte each, and are added up at once.
#pragma once
#include "cuda/compact.cuh"
#include "pkv_spec.h"

namespace pkv::cuda {

constexpr uint32_t kLaneKeys = 4;         // of one lane: one u32 of ids a subspace
constexpr uint32_t kWordTables = 4;       // tables of a word
constexpr uint32_t kPackedSubspaces = 4;  // that are added up at a time
static_assert(PKV_MAX_VOTE * kPackedSubspaces <= 255, "votes of four subspaces add up within a byte");

// How the tables lie in shared memory: [subspaces, words, copies] u32 for each group of up to four tables. With one table a
// word holds the votes of four neighbouring ids, else one id's votes in four tables.
template <uint32_t kHeadDim, uint32_t kGroups, uint32_t kBytes>
struct TableLayout {
  static constexpr bool one_table = kGroups == 0;
  static constexpr uint32_t groups = one_table ? 1 : kGroups;
  static constexpr uint32_t subspaces = kHeadDim / PKV_SUBSPACE_DIM;
  static constexpr uint32_t words = one_table ? PKV_CENTROIDS / 4 : PKV_CENTROIDS;
  static constexpr uint32_t most_copies = kBytes / (groups * subspaces * words * sizeof(uint32_t));
  static constexpr uint32_t copies = most_copies < 32 ? most_copies : 32;
  static constexpr uint32_t group_words = subspaces * words * copies;
  static constexpr uint32_t bytes = groups * group_words * sizeof(uint32_t);
  static_assert(copies > 0 && (copies & (copies - 1)) == 0, "copies are a power of two");
};

// tables: [table_count, subspaces, 256] u8. Missing tables of a group count as zeros.
// A thread takes four neighbouring ids to all their copies, in stores of 16 bytes that begin somewhere else in every lane:
// so the lanes of a warp do not meet in a bank.
template <class Layout>
__device__ void fill_tables(const uint8_t* tables, uint32_t table_count, uint32_t* shared) {
  constexpr uint32_t kQuads = Layout::subspaces * PKV_CENTROIDS / 4;  // of one table
  constexpr uint32_t kQuadWords = Layout::one_table ? 1 : 4;
  constexpr uint32_t kParts = Layout::copies >= 4 ? Layout::copies / 4 : 1;
  constexpr uint32_t kStores = kQuadWords * kParts;
  const uint32_t* const source = reinterpret_cast<const uint32_t*>(tables);
  for (uint32_t i = threadIdx.x; i < Layout::groups * kQuads; i += kBlockThreads) {
    const uint32_t quad = i % kQuads, group = i / kQuads;
    uint32_t votes[kWordTables];
#pragma unroll
    for (uint32_t t = 0; t < (Layout::one_table ? 1 : kWordTables); ++t) {
      const uint32_t table = group * kWordTables + t;
      votes[t] = table < table_count ? source[size_t{table} * kQuads + quad] : 0;
    }
    uint32_t* const to = shared + group * Layout::group_words + quad * kQuadWords * Layout::copies;
#pragma unroll 8
    for (uint32_t store = 0; store < kStores; ++store) {
      const uint32_t turned = (store + threadIdx.x) % kStores, id = turned / kParts, part = turned % kParts;
      uint32_t word = votes[0];
      if constexpr (!Layout::one_table) {
        const uint32_t pick = id | (id + 4) << 4;  // byte `id` of the one and of the other
        word = __byte_perm(__byte_perm(votes[0], votes[1], pick), __byte_perm(votes[2], votes[3], pick), 0x5410);
      }
      uint32_t* const copies = to + id * Layout::copies + part * 4;
      if constexpr (Layout::copies >= 4) {
        *reinterpret_cast<uint4*>(copies) = make_uint4(word, word, word, word);
      } else {
#pragma unroll
        for (uint32_t copy = 0; copy < Layout::copies; ++copy) copies[copy] = word;
      }
    }
  }
}

// Where the votes of four keys lie in one table, [words, copies] u32 of four neighbouring ids each: byte id % 4 of word
// number id / 4 * copies + copy. The offset of each key is put together from two bytes that are made for all four at once,
// which takes half the instructions of four keys one by one.
template <uint32_t kCopies>
struct ByteOffsets {
  // id / 4 begins at bit kRowShift of the offset, the copy at bit 2.
  static constexpr uint32_t kRowShift = kCopies == 32 ? 7 : kCopies == 16 ? 6 : kCopies == 8 ? 5 : 4;
  static_assert(4 * kCopies == 1u << kRowShift, "from 4 to 32 copies");
  static constexpr uint32_t kAllKeys = 0x01010101;
  static constexpr uint32_t kIdInLow = (0xffu << kRowShift & 0xff) * kAllKeys;
  static constexpr uint32_t kIdInHigh = (0xff >> (10 - kRowShift)) * kAllKeys;
  uint32_t low, high;

  __device__ ByteOffsets(uint32_t ids, uint32_t copy)
      : low((ids & 3 * kAllKeys) | (ids << (kRowShift - 2) & kIdInLow) | copy * 4 * kAllKeys),
        high(ids >> (10 - kRowShift) & kIdInHigh) {}

  template <uint32_t kKey>
  __device__ uint32_t of_key() const {
    // Byte kKey of `low`, then of `high`; above them the latter's sign twice, which is 0.
    constexpr uint32_t kPick = kKey | (4 + kKey) << 4 | (12 + kKey) << 8 | (12 + kKey) << 12;
    uint32_t offset;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(offset) : "r"(low), "r"(high), "n"(kPick));
    return offset;
  }
};

// The running scores of a lane's four keys.
template <class Layout>
struct Sums {
  uint32_t one[kLaneKeys];                                                  // with one table
  uint32_t even[Layout::groups][kLaneKeys], odd[Layout::groups][kLaneKeys];  // else two tables in a word, 16 bits each

  __device__ void clear() {
#pragma unroll
    for (uint32_t key = 0; key < kLaneKeys; ++key) {
      one[key] = 0;
#pragma unroll
      for (uint32_t group = 0; group < Layout::groups; ++group) even[group][key] = odd[group][key] = 0;
    }
  }

  // Adds the votes of four subspaces from `first` on; ids[b] holds those of the four keys. tables: shared memory.
  __device__ void add(const uint32_t (&ids)[kPackedSubspaces], const uint32_t* tables, uint32_t first) {
    const uint32_t copy = threadIdx.x % Layout::copies;
    if constexpr (Layout::one_table) {
      const uint8_t* const bytes = reinterpret_cast<const uint8_t*>(tables + first * Layout::words * Layout::copies);
#pragma unroll
      for (uint32_t b = 0; b < kPackedSubspaces; ++b) {
        const ByteOffsets<Layout::copies> offsets(ids[b], copy);
        const uint8_t* const table = bytes + b * Layout::words * Layout::copies * sizeof(uint32_t);
        one[0] += table[offsets.template of_key<0>()];
        one[1] += table[offsets.template of_key<1>()];
        one[2] += table[offsets.template of_key<2>()];
        one[3] += table[offsets.template of_key<3>()];
      }
    } else {
#pragma unroll
      for (uint32_t group = 0; group < Layout::groups; ++group) {
        const uint32_t* const own = tables + group * Layout::group_words + first * Layout::words * Layout::copies + copy;
#pragma unroll
        for (uint32_t key = 0; key < kLaneKeys; ++key) {
          uint32_t packed = 0;
#pragma unroll
          for (uint32_t b = 0; b < kPackedSubspaces; ++b) {
            const uint32_t id = ids[b] >> 8 * key & 0xff;
            packed += own[(b * Layout::words + id) * Layout::copies];
          }
          even[group][key] += packed & 0x00ff00ff;
          odd[group][key] += packed >> 8 & 0x00ff00ff;
        }
      }
    }
  }

  // The largest over the tables.
  __device__ uint32_t score(uint32_t key) const {
    if constexpr (Layout::one_table) return one[key];
    uint32_t best = 0;
#pragma unroll
    for (uint32_t group = 0; group < Layout::groups; ++group) {
      const uint32_t pair = __vmaxu2(even[group][key], odd[group][key]);
      best = max(best, max(pair & 0xffff, pair >> 16));
    }
    return best;
  }
};

}  // namespace pkv::cuda
