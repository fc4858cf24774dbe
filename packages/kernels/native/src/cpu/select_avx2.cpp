// 16 scores a step; chosen lanes move together by a table of lane numbers for every mask of eight.
#include <immintrin.h>

#include "cpu/select_lanes.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kStep = 16;
constexpr uint32_t kHalf = 8;

// lanes[mask]: the numbers of the set bits, ascending, one a byte; then zeros.
struct LaneTable {
  uint64_t lanes[256];
};
constexpr LaneTable make_lane_table() {
  LaneTable table{};
  for (uint32_t mask = 0; mask < 256; ++mask) {
    uint32_t place = 0;
    for (uint64_t lane = 0; lane < kHalf; ++lane) {
      if ((mask >> lane & 1) != 0) table.lanes[mask] |= lane << (8 * place++);
    }
  }
  return table;
}
constexpr LaneTable kLaneTable = make_lane_table();

inline __m256i lane_numbers(uint32_t mask) {
  return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(kLaneTable.lanes[mask])));
}

// One bit a lane of a 16-bit comparison.
inline uint32_t mask_of(__m256i comparison) {
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(comparison), _mm256_extracti128_si256(comparison, 1));
  return static_cast<uint32_t>(_mm_movemask_epi8(bytes));
}

// lowest <= score <= highest, unsigned.
inline __m256i within(__m256i scores, __m256i lowest, __m256i highest) {
  return _mm256_cmpeq_epi16(_mm256_min_epu16(_mm256_max_epu16(scores, lowest), highest), scores);
}

void count(const uint16_t* scores, uint32_t tokens, uint32_t lowest, uint32_t* histogram) {
  constexpr uint32_t kBuffered = 512;
  uint32_t buffer[kBuffered + kStep];
  uint32_t buffered = 0;
  const __m256i low = _mm256_set1_epi16(static_cast<short>(lowest));
  const __m256i high = _mm256_set1_epi16(PKV_SCORE_BINS - 1);
  uint32_t token = 0;
  for (; token + kStep <= tokens; token += kStep) {
    const __m256i values = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scores + token));
    const uint32_t mask = mask_of(within(values, low, high));
    for (uint32_t half = 0; half < 2; ++half) {
      const uint32_t chosen = mask >> (half * kHalf) & 255;
      const __m128i eight = half == 0 ? _mm256_castsi256_si128(values) : _mm256_extracti128_si256(values, 1);
      const __m256i packed = _mm256_permutevar8x32_epi32(_mm256_cvtepu16_epi32(eight), lane_numbers(chosen));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(buffer + buffered), packed);
      buffered += static_cast<uint32_t>(__builtin_popcount(chosen));
    }
    if (buffered >= kBuffered) {
      add_scores(buffer, buffered, histogram);
      buffered = 0;
    }
  }
  add_scores(buffer, buffered, histogram);
  select_portable.count(scores + token, tokens - token, lowest, histogram);
}

void collect(const uint16_t* scores, uint32_t tokens, SelectThreshold threshold, uint32_t* candidates) {
  const __m256i above = _mm256_set1_epi16(static_cast<short>(threshold.score + 1));
  const __m256i equal = _mm256_set1_epi16(static_cast<short>(threshold.score));
  const __m256i high = _mm256_set1_epi16(PKV_SCORE_BINS - 1);
  uint32_t found = 0, token = 0;
  // Whole registers are stored, so the last few candidates are left to plain code.
  for (; token + kStep <= tokens && found + kStep <= threshold.count; token += kStep) {
    const __m256i values = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scores + token));
    const uint32_t ties = take_ties(mask_of(_mm256_cmpeq_epi16(values, equal)), threshold.quota);
    // Nothing is above the greatest score: the limits would be the wrong way round.
    const uint32_t better = threshold.score + 1 < PKV_SCORE_BINS ? mask_of(within(values, above, high)) : 0;
    const uint32_t mask = better | ties;
    for (uint32_t half = 0; half < 2; ++half) {
      const uint32_t chosen = mask >> (half * kHalf) & 255;
      const __m256i first = _mm256_set1_epi32(static_cast<int>(token + half * kHalf));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(candidates + found),
                          _mm256_add_epi32(first, lane_numbers(chosen)));
      found += static_cast<uint32_t>(__builtin_popcount(chosen));
    }
  }
  for (; found < threshold.count; ++token) {
    const uint32_t score = scores[token];
    if (score < threshold.score || score >= PKV_SCORE_BINS) continue;
    if (score == threshold.score) {
      if (threshold.quota == 0) continue;
      --threshold.quota;
    }
    candidates[found++] = token;
  }
}

}  // namespace

const SelectKernels select_avx2 = {count, collect};

}  // namespace pkv::cpu
