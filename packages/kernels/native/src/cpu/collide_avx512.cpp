// A 256-entry byte table is two 128-entry permutes (vpermi2b) and a choice by bit 7 of the id. The table of one
// subspace stays in four registers while a whole page, eight registers of 64 keys, is scored against it.
#include <immintrin.h>

#include "cpu/collide_kernels.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kKeys = 64;
constexpr uint32_t kGroups = PKV_PAGE_TOKENS / kKeys;
constexpr uint32_t kStep = 4;  // subspaces that a byte holds: 4 * PKV_MAX_VOTE = 252
static_assert(kStep * PKV_MAX_VOTE <= 255, "four votes fit a byte");

// sums[i] += the votes of subspaces [first, first + kStep), for one page of keys.
void add_votes(const CollidePage& page, const uint8_t* tables, uint32_t first, uint16_t* sums) {
  __m512i votes[kGroups];
  for (uint32_t g = 0; g < kGroups; g++) votes[g] = _mm512_setzero_si512();
  for (uint32_t b = first; b < first + kStep; b++) {
    const uint8_t* table = tables + size_t{b} * PKV_CENTROIDS;
    const __m512i low0 = _mm512_loadu_si512(table), low1 = _mm512_loadu_si512(table + 64);
    const __m512i high0 = _mm512_loadu_si512(table + 128), high1 = _mm512_loadu_si512(table + 192);
    const uint8_t* ids = page.ids + size_t{b} * PKV_PAGE_TOKENS;
    const uint8_t* next = page.next_ids + size_t{b} * PKV_PAGE_TOKENS;
#pragma GCC unroll 8
    for (uint32_t g = 0; g < kGroups; g++) {
      _mm_prefetch(reinterpret_cast<const char*>(next + g * kKeys), _MM_HINT_T1);
      const __m512i id = _mm512_loadu_si512(ids + g * kKeys);
      const __m512i low = _mm512_permutex2var_epi8(low0, id, low1);
      const __m512i high = _mm512_permutex2var_epi8(high0, id, high1);
      votes[g] = _mm512_add_epi8(votes[g], _mm512_mask_blend_epi8(_mm512_movepi8_mask(id), low, high));
    }
  }
#pragma GCC unroll 8
  for (uint32_t g = 0; g < kGroups; g++) {
    uint16_t* at = sums + g * kKeys;
    const __m512i first_half = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(votes[g]));
    const __m512i second_half = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(votes[g], 1));
    _mm512_store_si512(at, _mm512_add_epi16(_mm512_load_si512(at), first_half));
    _mm512_store_si512(at + 32, _mm512_add_epi16(_mm512_load_si512(at + 32), second_half));
  }
}

}  // namespace

void score_page_avx512(const CollidePage& page) {
  for (uint32_t t = 0; t < page.table_count; t++) {
    alignas(64) uint16_t sums[PKV_PAGE_TOKENS];
    for (uint32_t i = 0; i < PKV_PAGE_TOKENS; i += 32) _mm512_store_si512(sums + i, _mm512_setzero_si512());
    const uint8_t* tables = page.tables + size_t{t} * page.subspaces * PKV_CENTROIDS;
    for (uint32_t b = 0; b < page.subspaces; b += kStep) add_votes(page, tables, b, sums);
    for (uint32_t i = 0; i < page.tokens; i += 32) {
      const uint32_t left = page.tokens - i;
      const __mmask32 lanes = left >= 32 ? ~__mmask32{0} : (__mmask32{1} << left) - 1;
      __m512i best = _mm512_load_si512(sums + i);
      if (t > 0) best = _mm512_max_epu16(best, _mm512_maskz_loadu_epi16(lanes, page.scores + i));
      _mm512_mask_storeu_epi16(page.scores + i, lanes, best);
    }
  }
}

}  // namespace pkv::cpu
