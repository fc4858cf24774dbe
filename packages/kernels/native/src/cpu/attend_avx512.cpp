// Per block of tokens: logits in tiles of 16 dot products (tokens x query heads) that one tree of shuffles reduces
// together; one vectorised softmax step a head; then V, 64 elements of it at a time, into accumulators in registers.
// Every row of K and V is read from memory once and widened once for up to four query heads.
#include <immintrin.h>

#include "cpu/attend_blocks.h"
#include "cpu/exp_avx512.h"
#include "cpu/sum_lanes_avx512.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kLanes = 16;
constexpr uint32_t kTile = 16;          // dot products of one tile: accumulators that fit the 32 registers
constexpr uint32_t kUnit = 2 * kLanes;  // elements that one load() yields
constexpr uint32_t kVectors = kBlockTokens / kLanes;
constexpr uint32_t kLineBytes = 64;
constexpr float kLowest = -3.40282347e38f;  // the least finite float

// load() widens kUnit elements into two registers, `first` and `second` half of the kernel's order.
struct F32 {
  static constexpr uint32_t bytes = 4;
  static inline void load(const uint8_t* row, uint32_t element, __m512& first, __m512& second) {
    first = _mm512_loadu_ps(row + element * bytes);
    second = _mm512_loadu_ps(row + element * bytes + kLineBytes);
  }
};
struct Bf16 {
  static constexpr uint32_t bytes = 2;
  static inline void load(const uint8_t* row, uint32_t element, __m512& first, __m512& second) {
    const __m512i pairs = _mm512_loadu_si512(row + element * bytes);
    first = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    second = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
};
struct F16 {
  static constexpr uint32_t bytes = 2;
  static inline void load(const uint8_t* row, uint32_t element, __m512& first, __m512& second) {
    const auto* at = reinterpret_cast<const __m256i*>(row + element * bytes);
    first = _mm512_cvtph_ps(_mm256_loadu_si256(at));
    second = _mm512_cvtph_ps(_mm256_loadu_si256(at + 1));
  }
};

// The record of a token; after the last one, that one again.
template <class Format>
inline const uint8_t* record(const Block& block, uint32_t head_dim, uint32_t token) {
  const uint32_t row = token < block.tokens ? token : block.tokens - 1;
  return block.records + size_t{row} * 2 * head_dim * Format::bytes;
}

// The logits of one block, [Heads][kBlockTokens].
template <class Format, uint32_t Heads>
inline void compute_logits(const AttendCall& call, const Block& block, float (&logits)[Heads][kBlockTokens]) {
  constexpr uint32_t tile_tokens = Heads == 1 ? 16 : Heads == 2 ? 8 : 4;
  const uint32_t d = call.head_dim;
  for (uint32_t begin = 0; begin < block.tokens; begin += tile_tokens) {
    __m512 sums[kTile];
#pragma GCC unroll 16
    for (uint32_t i = 0; i < kTile; i++) sums[i] = _mm512_setzero_ps();
    for (uint32_t element = 0; element < d; element += kUnit) {
      __m512 q_first[Heads], q_second[Heads];
#pragma GCC unroll 4
      for (uint32_t h = 0; h < Heads; h++) {
        q_first[h] = _mm512_loadu_ps(call.q + h * d + element);
        q_second[h] = _mm512_loadu_ps(call.q + h * d + element + kLanes);
      }
#pragma GCC unroll 16
      for (uint32_t t = 0; t < tile_tokens; t++) {
        // While the keys of this block are read, the first half of the next block's records is fetched in the order of
        // the memory, and with the values the second half. Into the second-level cache: one block fills the first.
        const uint8_t* next = block.next + (size_t{begin + t} * d + element) * Format::bytes;
        for (uint32_t line = 0; line < kUnit * Format::bytes; line += kLineBytes)
          _mm_prefetch(next + line, _MM_HINT_T1);
        __m512 first, second;
        Format::load(record<Format>(block, d, begin + t), element, first, second);
#pragma GCC unroll 4
        for (uint32_t h = 0; h < Heads; h++) {
          sums[h * tile_tokens + t] = _mm512_fmadd_ps(first, q_first[h], sums[h * tile_tokens + t]);
          sums[h * tile_tokens + t] = _mm512_fmadd_ps(second, q_second[h], sums[h * tile_tokens + t]);
        }
      }
    }
    const __m512 tile = sum_lanes_avx512(sums);  // [Heads][tile_tokens]
    if constexpr (tile_tokens == 16) {
      _mm512_store_ps(logits[0] + begin, tile);
    } else if constexpr (tile_tokens == 8) {
      _mm256_store_ps(logits[0] + begin, _mm512_castps512_ps256(tile));
      _mm256_store_ps(logits[1] + begin, _mm512_extractf32x8_ps(tile, 1));
    } else {
      _mm_store_ps(logits[0] + begin, _mm512_castps512_ps128(tile));
      _mm_store_ps(logits[1] + begin, _mm512_extractf32x4_ps(tile, 1));
      _mm_store_ps(logits[2] + begin, _mm512_extractf32x4_ps(tile, 2));
      if constexpr (Heads == 4) _mm_store_ps(logits[3] + begin, _mm512_extractf32x4_ps(tile, 3));
    }
  }
}

inline __m512 keep_finite(__m512 logits, __mmask16 present, __mmask16& kept) {
  const __m512 infinity = _mm512_castsi512_ps(_mm512_set1_epi32(0x7f800000));
  kept = _mm512_mask_cmp_ps_mask(present, _mm512_abs_ps(logits), infinity, _CMP_LT_OQ);
  return _mm512_mask_blend_ps(kept, _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(0xff800000u))), logits);
}

// Turns the logits of one head into weights and moves its maximum and sum on. Returns by how much the weighted sum of V
// so far must be multiplied; clears `all_kept` when a logit was left out.
inline __m512 weigh(float* logits, uint32_t tokens, float& maximum, float& sum, bool& all_kept) {
  __m512 x[kVectors];
  __m512 largest = _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(0xff800000u)));
#pragma GCC unroll 4
  for (uint32_t i = 0; i < kVectors; i++) {
    const uint32_t left = tokens < i * kLanes ? 0 : tokens - i * kLanes;
    const __mmask16 present = left >= kLanes ? 0xffff : static_cast<__mmask16>((1u << left) - 1);
    __mmask16 kept;
    x[i] = keep_finite(_mm512_load_ps(logits + i * kLanes), present, kept);
    if (kept != present) all_kept = false;
    largest = _mm512_max_ps(largest, x[i]);
  }
  const __m512 before = _mm512_set1_ps(maximum);
  const float block_maximum = _mm512_reduce_max_ps(largest);
  if (block_maximum > maximum) maximum = block_maximum;
  // With nothing kept so far the maximum is -infinity; 0 in its place makes every weight exp(-infinity) = 0.
  const __m512 reference = _mm512_set1_ps(maximum >= kLowest ? maximum : 0.0f);
  __m512 total = _mm512_setzero_ps();
#pragma GCC unroll 4
  for (uint32_t i = 0; i < kVectors; i++) {
    const __m512 weight = exp_avx512(_mm512_sub_ps(x[i], reference));
    _mm512_store_ps(logits + i * kLanes, weight);
    total = _mm512_add_ps(total, weight);
  }
  const __m512 rescale = exp_avx512(_mm512_sub_ps(before, reference));
  sum = sum * _mm512_cvtss_f32(rescale) + _mm512_reduce_add_ps(total);
  return rescale;
}

// output = output * rescale + sum over tokens of weight * V.
template <class Format, uint32_t Heads>
inline void add_values(const AttendCall& call, const Block& block, const float (&weights)[Heads][kBlockTokens],
                       const __m512 (&rescale)[Heads]) {
  const uint32_t d = call.head_dim;
  for (uint32_t element = 0; element < d; element += 2 * kUnit) {
    __m512 sums[Heads][4];
#pragma GCC unroll 4
    for (uint32_t h = 0; h < Heads; h++) {
#pragma GCC unroll 4
      for (uint32_t i = 0; i < 4; i++) {
        sums[h][i] = _mm512_mul_ps(_mm512_loadu_ps(call.output + h * d + element + i * kLanes), rescale[h]);
      }
    }
    for (uint32_t t = 0; t < block.tokens; t++) {
      const uint8_t* value = record<Format>(block, d, t) + d * Format::bytes;
      const uint8_t* next = block.next + (size_t{kBlockTokens + t} * d + element) * Format::bytes;
      for (uint32_t line = 0; line < 2 * kUnit * Format::bytes; line += kLineBytes)
        _mm_prefetch(next + line, _MM_HINT_T1);
      __m512 v[4];
      Format::load(value, element, v[0], v[1]);
      Format::load(value, element + kUnit, v[2], v[3]);
#pragma GCC unroll 4
      for (uint32_t h = 0; h < Heads; h++) {
        const __m512 weight = _mm512_set1_ps(weights[h][t]);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; i++) sums[h][i] = _mm512_fmadd_ps(weight, v[i], sums[h][i]);
      }
    }
#pragma GCC unroll 4
    for (uint32_t h = 0; h < Heads; h++) {
#pragma GCC unroll 4
      for (uint32_t i = 0; i < 4; i++) _mm512_storeu_ps(call.output + h * d + element + i * kLanes, sums[h][i]);
    }
  }
}

// The same for a block with left-out tokens: weights of 0 are skipped, because 0 * V is not 0 where V is not finite.
template <class Format, uint32_t Heads>
void add_kept_values(const AttendCall& call, const Block& block, const float (&weights)[Heads][kBlockTokens],
                     const __m512 (&rescale)[Heads]) {
  const uint32_t d = call.head_dim;
  for (uint32_t h = 0; h < Heads; h++) {
    for (uint32_t element = 0; element < d; element += kUnit) {
      float* output = call.output + h * d + element;
      __m512 first = _mm512_mul_ps(_mm512_loadu_ps(output), rescale[h]);
      __m512 second = _mm512_mul_ps(_mm512_loadu_ps(output + kLanes), rescale[h]);
      for (uint32_t t = 0; t < block.tokens; t++) {
        if (weights[h][t] == 0) continue;
        __m512 v_first, v_second;
        Format::load(record<Format>(block, d, t) + d * Format::bytes, element, v_first, v_second);
        first = _mm512_fmadd_ps(_mm512_set1_ps(weights[h][t]), v_first, first);
        second = _mm512_fmadd_ps(_mm512_set1_ps(weights[h][t]), v_second, second);
      }
      _mm512_storeu_ps(output, first);
      _mm512_storeu_ps(output + kLanes, second);
    }
  }
}

template <class Format, uint32_t Heads>
void attend_heads(const AttendCall& call) {
  for_each_block(call, size_t{2} * call.head_dim * Format::bytes, [&](const Block& block) {
    alignas(64) float weights[Heads][kBlockTokens];
    compute_logits<Format, Heads>(call, block, weights);
    __m512 rescale[Heads];
    bool all_kept = true;
    for (uint32_t h = 0; h < Heads; h++) {
      rescale[h] = weigh(weights[h], block.tokens, call.maximum[h], call.sum[h], all_kept);
    }
    if (all_kept) {
      add_values<Format, Heads>(call, block, weights, rescale);
    } else {
      add_kept_values<Format, Heads>(call, block, weights, rescale);
    }
  });
}

template <class Format>
void attend_spans(const AttendCall& call) {
  switch (call.heads) {
    case 1: return attend_heads<Format, 1>(call);
    case 2: return attend_heads<Format, 2>(call);
    case 3: return attend_heads<Format, 3>(call);
    default: return attend_heads<Format, 4>(call);
  }
}

}  // namespace

const AttendKernels attend_avx512 = {attend_spans<F32>, attend_spans<Bf16>, attend_spans<F16>, kUnit};

}  // namespace pkv::cpu
