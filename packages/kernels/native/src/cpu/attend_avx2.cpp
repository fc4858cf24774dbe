// The scheme of attend_avx512.cpp with half as wide registers and half as many: tiles of 8 dot products, and V in units
// of 16 elements.
#include <immintrin.h>

#include "cpu/attend_blocks.h"
#include "cpu/exp_avx2.h"
#include "cpu/sum_lanes_avx2.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kLanes = 8;
constexpr uint32_t kTile = 8;           // dot products of one tile
constexpr uint32_t kUnit = 2 * kLanes;  // elements that one load() yields
constexpr uint32_t kVectors = kBlockTokens / kLanes;
constexpr uint32_t kLineBytes = 64;
constexpr float kLowest = -3.40282347e38f;  // the least finite float

// load() widens kUnit elements into two registers, `first` and `second` half of the kernel's order.
struct F32 {
  static constexpr uint32_t bytes = 4;
  static inline void load(const uint8_t* row, uint32_t element, __m256& first, __m256& second) {
    const auto* at = reinterpret_cast<const float*>(row + element * bytes);
    first = _mm256_loadu_ps(at);
    second = _mm256_loadu_ps(at + kLanes);
  }
};
struct Bf16 {
  static constexpr uint32_t bytes = 2;
  static inline void load(const uint8_t* row, uint32_t element, __m256& first, __m256& second) {
    const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + element * bytes));
    first = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
    second = _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }
};
struct F16 {
  static constexpr uint32_t bytes = 2;
  static inline void load(const uint8_t* row, uint32_t element, __m256& first, __m256& second) {
    const auto* at = reinterpret_cast<const __m128i*>(row + element * bytes);
    first = _mm256_cvtph_ps(_mm_loadu_si128(at));
    second = _mm256_cvtph_ps(_mm_loadu_si128(at + 1));
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
  constexpr uint32_t tile_tokens = Heads == 1 ? 8 : Heads == 2 ? 4 : 2;
  const uint32_t d = call.head_dim;
  for (uint32_t begin = 0; begin < block.tokens; begin += tile_tokens) {
    __m256 sums[kTile];
#pragma GCC unroll 8
    for (uint32_t i = 0; i < kTile; i++) sums[i] = _mm256_setzero_ps();
    for (uint32_t element = 0; element < d; element += kUnit) {
#pragma GCC unroll 8
      for (uint32_t t = 0; t < tile_tokens; t++) {
        __m256 first, second;
        // As attend_avx512.cpp fetches.
        const size_t offset = (size_t{begin + t} * d + element) * Format::bytes;
        if (offset % kLineBytes == 0) _mm_prefetch(block.next + offset, _MM_HINT_T1);
        Format::load(record<Format>(block, d, begin + t), element, first, second);
#pragma GCC unroll 4
        for (uint32_t h = 0; h < Heads; h++) {
          const float* q = call.q + h * d + element;
          sums[t * Heads + h] = _mm256_fmadd_ps(first, _mm256_loadu_ps(q), sums[t * Heads + h]);
          sums[t * Heads + h] = _mm256_fmadd_ps(second, _mm256_loadu_ps(q + kLanes), sums[t * Heads + h]);
        }
      }
    }
    alignas(32) float tile[kTile];
    _mm256_store_ps(tile, sum_lanes_avx2(sums));
    for (uint32_t t = 0; t < tile_tokens; t++) {
      for (uint32_t h = 0; h < Heads; h++) logits[h][begin + t] = tile[t * Heads + h];
    }
  }
}

// Turns the logits of one head into weights and moves its maximum and sum on. Returns by how much the weighted sum of V
// so far must be multiplied; clears `all_kept` when a logit was left out.
inline __m256 weigh(float* logits, uint32_t tokens, float& maximum, float& sum, bool& all_kept) {
  const __m256 infinity = _mm256_castsi256_ps(_mm256_set1_epi32(0x7f800000));
  const __m256 nothing = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xff800000u)));
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 x[kVectors], largest = nothing;
  uint32_t kept_tokens = 0;
  for (uint32_t i = 0; i < kVectors; i++) {
    const __m256i index =
        _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(static_cast<int>(i * kLanes)));
    const __m256 present = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(tokens)), index));
    x[i] = _mm256_load_ps(logits + i * kLanes);
    const __m256 kept = _mm256_and_ps(present, _mm256_cmp_ps(_mm256_and_ps(x[i], magnitude), infinity, _CMP_LT_OQ));
    kept_tokens += static_cast<uint32_t>(__builtin_popcount(static_cast<uint32_t>(_mm256_movemask_ps(kept))));
    x[i] = _mm256_blendv_ps(nothing, x[i], kept);
    largest = _mm256_max_ps(largest, x[i]);
  }
  if (kept_tokens != tokens) all_kept = false;
  const __m256 before = _mm256_set1_ps(maximum);
  const float block_maximum = largest_lane_avx2(largest);
  if (block_maximum > maximum) maximum = block_maximum;
  // With nothing kept so far the maximum is -infinity; 0 in its place makes every weight exp(-infinity) = 0.
  const __m256 reference = _mm256_set1_ps(maximum >= kLowest ? maximum : 0.0f);
  __m256 total = _mm256_setzero_ps();
  for (uint32_t i = 0; i < kVectors; i++) {
    const __m256 weight = exp_avx2(_mm256_sub_ps(x[i], reference));
    _mm256_store_ps(logits + i * kLanes, weight);
    total = _mm256_add_ps(total, weight);
  }
  const __m256 rescale = exp_avx2(_mm256_sub_ps(before, reference));
  sum = sum * _mm256_cvtss_f32(rescale) + sum_lanes_avx2(total);
  return rescale;
}

// output = output * rescale + sum over tokens of weight * V.
template <class Format, uint32_t Heads>
inline void add_values(const AttendCall& call, const Block& block, const float (&weights)[Heads][kBlockTokens],
                       const __m256 (&rescale)[Heads]) {
  const uint32_t d = call.head_dim;
  for (uint32_t element = 0; element < d; element += kUnit) {
    __m256 sums[Heads][2];
#pragma GCC unroll 4
    for (uint32_t h = 0; h < Heads; h++) {
      const float* output = call.output + h * d + element;
      sums[h][0] = _mm256_mul_ps(_mm256_loadu_ps(output), rescale[h]);
      sums[h][1] = _mm256_mul_ps(_mm256_loadu_ps(output + kLanes), rescale[h]);
    }
    for (uint32_t t = 0; t < block.tokens; t++) {
      __m256 first, second;
      const size_t offset = (size_t{kBlockTokens + t} * d + element) * Format::bytes;
      if (offset % kLineBytes == 0) _mm_prefetch(block.next + offset, _MM_HINT_T1);
      Format::load(record<Format>(block, d, t) + d * Format::bytes, element, first, second);
#pragma GCC unroll 4
      for (uint32_t h = 0; h < Heads; h++) {
        const __m256 weight = _mm256_broadcast_ss(&weights[h][t]);
        sums[h][0] = _mm256_fmadd_ps(weight, first, sums[h][0]);
        sums[h][1] = _mm256_fmadd_ps(weight, second, sums[h][1]);
      }
    }
#pragma GCC unroll 4
    for (uint32_t h = 0; h < Heads; h++) {
      float* output = call.output + h * d + element;
      _mm256_storeu_ps(output, sums[h][0]);
      _mm256_storeu_ps(output + kLanes, sums[h][1]);
    }
  }
}

// The same for a block with left-out tokens: weights of 0 are skipped, because 0 * V is not 0 where V is not finite.
template <class Format, uint32_t Heads>
void add_kept_values(const AttendCall& call, const Block& block, const float (&weights)[Heads][kBlockTokens],
                     const __m256 (&rescale)[Heads]) {
  const uint32_t d = call.head_dim;
  for (uint32_t h = 0; h < Heads; h++) {
    for (uint32_t element = 0; element < d; element += kUnit) {
      float* output = call.output + h * d + element;
      __m256 first = _mm256_mul_ps(_mm256_loadu_ps(output), rescale[h]);
      __m256 second = _mm256_mul_ps(_mm256_loadu_ps(output + kLanes), rescale[h]);
      for (uint32_t t = 0; t < block.tokens; t++) {
        if (weights[h][t] == 0) continue;
        __m256 v_first, v_second;
        Format::load(record<Format>(block, d, t) + d * Format::bytes, element, v_first, v_second);
        first = _mm256_fmadd_ps(_mm256_set1_ps(weights[h][t]), v_first, first);
        second = _mm256_fmadd_ps(_mm256_set1_ps(weights[h][t]), v_second, second);
      }
      _mm256_storeu_ps(output, first);
      _mm256_storeu_ps(output + kLanes, second);
    }
  }
}

template <class Format, uint32_t Heads>
void attend_heads(const AttendCall& call) {
  for_each_block(call, size_t{2} * call.head_dim * Format::bytes, [&](const Block& block) {
    alignas(32) float weights[Heads][kBlockTokens];
    compute_logits<Format, Heads>(call, block, weights);
    __m256 rescale[Heads];
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

const AttendKernels attend_avx2 = {attend_spans<F32>, attend_spans<Bf16>, attend_spans<F16>, kUnit};

}  // namespace pkv::cpu
