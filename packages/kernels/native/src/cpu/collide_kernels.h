// The innermost loop of collide, once per instruction set.
#pragma once
#include <cstdint>

#include "cpu/cpu.h"

namespace pkv::cpu {

// One page of keys of one KV head against its vote tables.
struct CollidePage {
  const uint8_t* ids;       // [subspaces, PKV_PAGE_TOKENS]
  const uint8_t* next_ids;  // the plane scored after this one, to be prefetched; may equal `ids`
  const uint8_t* tables;    // [table_count, subspaces, PKV_CENTROIDS]
  uint32_t subspaces;       // a multiple of 4
  uint32_t table_count;     // at least 1
  uint32_t tokens;          // keys to score, at most PKV_PAGE_TOKENS
  uint16_t* scores;         // [tokens]
};

// scores[i] = max over tables of the sum over subspaces of table[subspace][ids[subspace][i]].
// Sums of four votes stay in a byte (4 * PKV_MAX_VOTE = 252), sums of 32 in 16 bits.
using ScorePage = void (*)(const CollidePage&);

void score_page_portable(const CollidePage&);
void score_page_avx2(const CollidePage&);
void score_page_avx512(const CollidePage&);

// The version for an instruction set; sets without one of their own share the portable version.
ScorePage score_page(Isa);

}  // namespace pkv::cpu
