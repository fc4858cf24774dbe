// 32 scores a step; chosen lanes move together by compression.
#include <immintrin.h>

#include "cpu/select_lanes.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kStep = 32;
constexpr uint32_t kHalf = 16;

inline __mmask32 lanes_of(uint32_t tokens) { return tokens >= kStep ? ~0u : (1u << tokens) - 1; }

void count(const uint16_t* scores, uint32_t tokens, uint32_t lowest, uint32_t* histogram) {
  constexpr uint32_t kBuffered = 512;
  uint32_t buffer[kBuffered + kStep];
  uint32_t buffered = 0;
  const __m512i low = _mm512_set1_epi16(static_cast<short>(lowest));
  const __m512i end = _mm512_set1_epi16(PKV_SCORE_BINS);
  for (uint32_t token = 0; token < tokens; token += kStep) {
    const __mmask32 lanes = lanes_of(tokens - token);
    const __m512i values = _mm512_maskz_loadu_epi16(lanes, scores + token);
    const __mmask32 chosen = _mm512_mask_cmplt_epu16_mask(_mm512_mask_cmpge_epu16_mask(lanes, values, low), values, end);
    for (uint32_t half = 0; half < 2; ++half) {
      const __m256i sixteen = half == 0 ? _mm512_castsi512_si256(values) : _mm512_extracti64x4_epi64(values, 1);
      const __mmask16 mask = static_cast<__mmask16>(chosen >> (half * kHalf));
      _mm512_storeu_si512(buffer + buffered, _mm512_maskz_compress_epi32(mask, _mm512_cvtepu16_epi32(sixteen)));
      buffered += static_cast<uint32_t>(__builtin_popcount(mask));
    }
    if (buffered >= kBuffered) {
      add_scores(buffer, buffered, histogram);
      buffered = 0;
    }
  }
  add_scores(buffer, buffered, histogram);
}

void collect(const uint16_t* scores, uint32_t tokens, SelectThreshold threshold, uint32_t* candidates) {
  const __m512i equal = _mm512_set1_epi16(static_cast<short>(threshold.score));
  const __m512i end = _mm512_set1_epi16(PKV_SCORE_BINS);
  const __m512i numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  uint32_t found = 0;
  for (uint32_t token = 0; token < tokens && found < threshold.count; token += kStep) {
    const __mmask32 lanes = lanes_of(tokens - token);
    const __m512i values = _mm512_maskz_loadu_epi16(lanes, scores + token);
    const uint32_t ties = take_ties(_mm512_mask_cmpeq_epu16_mask(lanes, values, equal), threshold.quota);
    const uint32_t better =
        _mm512_mask_cmplt_epu16_mask(_mm512_mask_cmpgt_epu16_mask(lanes, values, equal), values, end);
    const uint32_t chosen = better | ties;
    for (uint32_t half = 0; half < 2; ++half) {
      const __mmask16 mask = static_cast<__mmask16>(chosen >> (half * kHalf));
      const uint32_t chosen_count = static_cast<uint32_t>(__builtin_popcount(mask));
      const __m512i indices = _mm512_add_epi32(numbers, _mm512_set1_epi32(static_cast<int>(token + half * kHalf)));
      // Compressed in a register and stored under a mask: a compressing store is slow on some CPUs.
      _mm512_mask_storeu_epi32(candidates + found, static_cast<__mmask16>((1u << chosen_count) - 1),
                               _mm512_maskz_compress_epi32(mask, indices));
      found += chosen_count;
    }
  }
}

}  // namespace

const SelectKernels select_avx512 = {count, collect};

}  // namespace pkv::cpu
