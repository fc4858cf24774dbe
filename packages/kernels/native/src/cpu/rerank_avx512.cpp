// Sixteen code bytes are four subspaces: their low nibbles index the sixteen signed levels for the even coordinates,
// their high nibbles for the odd ones, with one vpermps each. Weights multiply the levels once and serve every query.
#include <immintrin.h>

#include "cpu/exp_avx512.h"
#include "cpu/rerank_kernels.h"
#include "cpu/sum_lanes_avx512.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kLanes = 16;
constexpr uint32_t kTile = 16;          // keys x queries of one tile: accumulators that fit the 32 registers
constexpr uint32_t kUnit = 2 * kLanes;  // coordinates of sixteen code bytes
constexpr uint32_t kUnitSubspaces = kUnit / PKV_SUBSPACE_DIM;
constexpr uint32_t kLineBytes = 64;
constexpr size_t kChunk = 256;  // summands of one f32 partial sum: rounding stays under 1e-6

// Sixteen weight bytes (eight and eight zeros where only `subspaces` = 8 are there) as f32.
inline __m512 decode_weights(const uint8_t* bytes, uint32_t subspaces) {
  const __m128i packed = subspaces == 8 ? _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes))
                                        : _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  const __m512i wide = _mm512_cvtepu8_epi32(packed);
  const __m512i bits =
      _mm512_slli_epi32(_mm512_add_epi32(wide, _mm512_set1_epi32(PKV_WEIGHT_EXPONENT_BIAS)), PKV_WEIGHT_SHIFT);
  return _mm512_castsi512_ps(_mm512_maskz_mov_epi32(_mm512_test_epi32_mask(wide, wide), bits));
}

// sums[query] += one key, lane by lane.
template <uint32_t Queries>
inline void add_key(const EstimateBlock& block, const uint8_t* codes, const uint8_t* weights, __m512 values,
                    __m512* sums) {
  const uint32_t d = block.head_dim, subspaces = d / PKV_SUBSPACE_DIM;
  const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  for (uint32_t begin = 0; begin < subspaces; begin += kLanes) {
    const __m512 decoded = decode_weights(weights + begin, subspaces);
    const uint32_t end = subspaces - begin < kLanes ? subspaces : begin + kLanes;
    for (uint32_t b = begin; b < end; b += kUnitSubspaces) {
      const uint32_t coordinate = b * PKV_SUBSPACE_DIM;
      const __m512i pairs =
          _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + coordinate / 2)));
      const __m512 weight =
          _mm512_permutexvar_ps(_mm512_add_epi32(spread, _mm512_set1_epi32(static_cast<int>(b - begin))), decoded);
      const __m512 even = _mm512_mul_ps(weight, _mm512_permutexvar_ps(pairs, values));
      const __m512 odd = _mm512_mul_ps(weight, _mm512_permutexvar_ps(_mm512_srli_epi32(pairs, 4), values));
#pragma GCC unroll 4
      for (uint32_t h = 0; h < Queries; h++) {
        const float* rotated = block.rotated + h * d + coordinate;
        sums[h] = _mm512_fmadd_ps(even, _mm512_loadu_ps(rotated), sums[h]);
        sums[h] = _mm512_fmadd_ps(odd, _mm512_loadu_ps(rotated + kLanes), sums[h]);
      }
    }
  }
}

template <uint32_t Queries>
void estimate_queries(const EstimateBlock& block) {
  constexpr uint32_t tile_keys = Queries == 1 ? 16 : Queries == 2 ? 8 : 4;
  const __m512 values = _mm512_loadu_ps(block.values);
  for (uint32_t begin = 0; begin < block.keys; begin += tile_keys) {
    __m512 sums[kTile];
#pragma GCC unroll 16
    for (uint32_t i = 0; i < kTile; i++) sums[i] = _mm512_setzero_ps();
#pragma GCC unroll 16
    for (uint32_t t = 0; t < tile_keys; t++) {
      for (uint32_t byte = 0; byte < block.head_dim / 2; byte += kLineBytes) {
        _mm_prefetch(reinterpret_cast<const char*>(block.next_codes[begin + t] + byte), _MM_HINT_T0);
      }
      _mm_prefetch(reinterpret_cast<const char*>(block.next_weights[begin + t]), _MM_HINT_T0);
      add_key<Queries>(block, block.codes[begin + t], block.weights[begin + t], values, sums + t * Queries);
    }
    alignas(64) float tile[kTile];
    _mm512_store_ps(tile, sum_lanes_avx512(sums));
    for (uint32_t t = 0; t < tile_keys && begin + t < block.keys; t++) {
      for (uint32_t h = 0; h < Queries; h++)
        block.estimates[h * block.estimate_stride + begin + t] = tile[t * Queries + h];
    }
  }
}

void estimate(const EstimateBlock& block) {
  switch (block.queries) {
    case 1: return estimate_queries<1>(block);
    case 2: return estimate_queries<2>(block);
    case 3: return estimate_queries<3>(block);
    default: return estimate_queries<4>(block);
  }
}

inline __mmask16 lanes_of(size_t left) {
  return left >= kLanes ? 0xffff : static_cast<__mmask16>((1u << left) - 1);
}

inline __mmask16 finite_lanes(__mmask16 lanes, __m512 x) {
  const __m512 infinity = _mm512_castsi512_ps(_mm512_set1_epi32(0x7f800000));
  return _mm512_mask_cmp_ps_mask(lanes, _mm512_abs_ps(x), infinity, _CMP_LT_OQ);
}

float largest(const float* x, size_t count) {
  __m512 result = _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(0xff800000u)));
  for (size_t i = 0; i < count; i += kLanes) {
    const __mmask16 lanes = lanes_of(count - i);
    const __m512 v = _mm512_maskz_loadu_ps(lanes, x + i);
    result = _mm512_mask_max_ps(result, finite_lanes(lanes, v), result, v);
  }
  return _mm512_reduce_max_ps(result);
}

double exp_sum(const float* x, size_t count, float scale, float reference) {
  const __m512 scales = _mm512_set1_ps(scale), references = _mm512_set1_ps(reference);
  double total = 0;
  for (size_t begin = 0; begin < count; begin += kChunk) {
    const size_t end = count - begin < kChunk ? count : begin + kChunk;
    __m512 sum = _mm512_setzero_ps();
    for (size_t i = begin; i < end; i += kLanes) {
      const __mmask16 lanes = lanes_of(end - i);
      const __m512 v = _mm512_maskz_loadu_ps(lanes, x + i);
      const __m512 term = exp_avx512(_mm512_fmsub_ps(scales, v, references));
      sum = _mm512_mask_add_ps(sum, finite_lanes(lanes, v), sum, term);
    }
    total += static_cast<double>(_mm512_reduce_add_ps(sum));
  }
  return total;
}

void raise_to_share(const float* x, size_t count, float scale, float log_sum, float* y) {
  const __m512 scales = _mm512_set1_ps(scale), log_sums = _mm512_set1_ps(log_sum);
  for (size_t i = 0; i < count; i += kLanes) {
    const __mmask16 lanes = lanes_of(count - i);
    const __m512 share = _mm512_fmsub_ps(scales, _mm512_maskz_loadu_ps(lanes, x + i), log_sums);
    // max_ps takes its second operand where the first is no number.
    _mm512_mask_storeu_ps(y + i, lanes, _mm512_max_ps(share, _mm512_maskz_loadu_ps(lanes, y + i)));
  }
}

void add_share(const float* x, size_t count, float scale, float log_sum, float* y) {
  const __m512 scales = _mm512_set1_ps(scale), log_sums = _mm512_set1_ps(log_sum);
  for (size_t i = 0; i < count; i += kLanes) {
    const __mmask16 lanes = lanes_of(count - i);
    const __m512 share = exp_avx512(_mm512_fmsub_ps(scales, _mm512_maskz_loadu_ps(lanes, x + i), log_sums));
    _mm512_mask_storeu_ps(y + i, lanes, _mm512_add_ps(share, _mm512_maskz_loadu_ps(lanes, y + i)));
  }
}

Moments moments(const float* x, const float* scores, size_t count) {
  Moments sums{};
  __m512d score_sum = _mm512_setzero_pd(), logit_sum = score_sum, score_squares = score_sum, logit_squares = score_sum,
          products = score_sum;
  for (size_t i = 0; i < count; i += 8) {
    const __mmask8 lanes = count - i >= 8 ? 0xff : static_cast<__mmask8>((1u << (count - i)) - 1);
    const __m256 v = _mm256_maskz_loadu_ps(lanes, x + i);
    const __m256 magnitude = _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)));
    const __m256 infinity = _mm256_castsi256_ps(_mm256_set1_epi32(0x7f800000));
    const __mmask8 finite = _mm256_mask_cmp_ps_mask(lanes, magnitude, infinity, _CMP_LT_OQ);
    const __m512d logit = _mm512_cvtps_pd(_mm256_maskz_mov_ps(finite, v));
    const __m512d score = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(finite, scores + i));
    sums.count += __builtin_popcount(finite);
    score_sum = _mm512_add_pd(score_sum, score);
    logit_sum = _mm512_add_pd(logit_sum, logit);
    score_squares = _mm512_fmadd_pd(score, score, score_squares);
    logit_squares = _mm512_fmadd_pd(logit, logit, logit_squares);
    products = _mm512_fmadd_pd(score, logit, products);
  }
  sums.scores = _mm512_reduce_add_pd(score_sum);
  sums.logits = _mm512_reduce_add_pd(logit_sum);
  sums.score_squares = _mm512_reduce_add_pd(score_squares);
  sums.logit_squares = _mm512_reduce_add_pd(logit_squares);
  sums.products = _mm512_reduce_add_pd(products);
  return sums;
}

}  // namespace

const RerankKernels rerank_avx512 = {estimate, kUnit, largest, exp_sum, raise_to_share, add_share, moments};

}  // namespace pkv::cpu
