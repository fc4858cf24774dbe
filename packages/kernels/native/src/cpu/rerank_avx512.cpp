// Lanes are keys. Four subspaces of sixteen keys are transposed at once: a register then holds the eight codes of one
// subspace for every key, and each code picks one of the sixteen signed levels with a vpermps. What the subspace adds to the
// estimate of a query is summed first and weighted once.
#include <immintrin.h>

#include "cpu/exp_avx512.h"
#include "cpu/rerank_kernels.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kLanes = 16;
constexpr uint32_t kGroups = kEstimateBlockKeys / kLanes;
constexpr uint32_t kUnit = 4;  // subspaces that are transposed at once: 16 bytes of codes, 4 of weights
constexpr uint32_t kUnitCodeBytes = kUnit * PKV_SUBSPACE_DIM / 2;
constexpr uint32_t kCodeBits = 4, kWeightBits = 8;
constexpr uint32_t kLineBytes = 64;
constexpr size_t kChunk = 256;  // summands of one f32 partial sum: rounding stays under 1e-6

inline __m128i load(const uint8_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }

// columns[i], lane k: the i-th four bytes from rows[k] + offset on. A row of 8 bytes (`half`) ends with zeros.
inline void transpose(const uint8_t* const* rows, size_t offset, bool half, __m512i (&columns)[4]) {
  __m512i quads[4];  // four rows each: i, i + 4, i + 8, i + 12
#pragma GCC unroll 4
  for (uint32_t i = 0; i < 4; i++) {
    const uint8_t* const row[4] = {rows[i] + offset, rows[i + 4] + offset, rows[i + 8] + offset, rows[i + 12] + offset};
    if (half) {
      const auto low = [&](uint32_t k) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row[k])); };
      quads[i] = _mm512_inserti64x4(
          _mm512_castsi256_si512(_mm256_inserti128_si256(_mm256_castsi128_si256(low(0)), low(1), 1)),
          _mm256_inserti128_si256(_mm256_castsi128_si256(low(2)), low(3), 1), 1);
    } else {
      quads[i] = _mm512_castsi128_si512(load(row[0]));
      quads[i] = _mm512_inserti32x4(quads[i], load(row[1]), 1);
      quads[i] = _mm512_inserti32x4(quads[i], load(row[2]), 2);
      quads[i] = _mm512_inserti32x4(quads[i], load(row[3]), 3);
    }
  }
  const __m512i a = _mm512_unpacklo_epi32(quads[0], quads[1]), b = _mm512_unpacklo_epi32(quads[2], quads[3]);
  const __m512i c = _mm512_unpackhi_epi32(quads[0], quads[1]), d = _mm512_unpackhi_epi32(quads[2], quads[3]);
  columns[0] = _mm512_unpacklo_epi64(a, b);
  columns[1] = _mm512_unpackhi_epi64(a, b);
  columns[2] = _mm512_unpacklo_epi64(c, d);
  columns[3] = _mm512_unpackhi_epi64(c, d);
}

// The weights of subspace `s` of a unit, from the four bytes of each lane.
inline __m512 decode_weights(__m512i bytes, uint32_t s) {
  const __m512i mask = _mm512_set1_epi32(((1 << kWeightBits) - 1) << PKV_WEIGHT_SHIFT);
  const uint32_t at = s * kWeightBits;
  const __m512i moved = at <= PKV_WEIGHT_SHIFT ? _mm512_slli_epi32(bytes, PKV_WEIGHT_SHIFT - at)
                                               : _mm512_srli_epi32(bytes, at - PKV_WEIGHT_SHIFT);
  const __m512i byte = _mm512_and_si512(moved, mask);
  const __m512i bias = _mm512_set1_epi32(PKV_WEIGHT_EXPONENT_BIAS << PKV_WEIGHT_SHIFT);
  return _mm512_castsi512_ps(_mm512_maskz_add_epi32(_mm512_test_epi32_mask(byte, byte), byte, bias));
}

// Asks for part `part` of `parts` of the next block's lines. Always inline: GCC 12 drops a call that only prefetches.
__attribute__((always_inline)) inline void prefetch_next(const EstimateBlock& block, uint32_t part, uint32_t parts) {
  const uint32_t keys = kEstimateBlockKeys / parts;
  for (uint32_t key = part * keys; key < (part + 1) * keys; key++) {
    for (uint32_t byte = 0; byte < block.head_dim / 2; byte += kLineBytes) {
      _mm_prefetch(reinterpret_cast<const char*>(block.next_codes[key] + byte), _MM_HINT_T0);
    }
    _mm_prefetch(reinterpret_cast<const char*>(block.next_weights[key]), _MM_HINT_T0);
  }
}

template <uint32_t Queries>
void estimate_queries(const EstimateBlock& block) {
  const __m512 values = _mm512_loadu_ps(block.values);
  const uint32_t units = block.head_dim / (kUnit * PKV_SUBSPACE_DIM);
  __m512 estimates[kGroups][Queries];
  for (auto& group : estimates) {
    for (__m512& estimate : group) estimate = _mm512_setzero_ps();
  }
  __m512i weights[kGroups][4];  // of four units
  for (uint32_t unit = 0; unit < units; unit++) {
    __m512i codes[kGroups][kUnit];
#pragma GCC unroll 2
    for (uint32_t g = 0; g < kGroups; g++) {
      if (unit % 4 == 0) transpose(block.weights + g * kLanes, unit * kUnit, units == 2, weights[g]);
      transpose(block.codes + g * kLanes, unit * kUnitCodeBytes, false, codes[g]);
    }
#pragma GCC unroll 4
    for (uint32_t s = 0; s < kUnit; s++) {
      prefetch_next(block, unit * kUnit + s, units * kUnit);
      const float* rotated = block.rotated + (unit * kUnit + s) * PKV_SUBSPACE_DIM;
      __m512 sums[kGroups][Queries];
#pragma GCC unroll 8
      for (uint32_t j = 0; j < PKV_SUBSPACE_DIM; j++) {
#pragma GCC unroll 2
        for (uint32_t g = 0; g < kGroups; g++) {  // vpermps looks at the lowest four bits only
          const __m512 value = _mm512_permutexvar_ps(_mm512_srli_epi32(codes[g][s], j * kCodeBits), values);
#pragma GCC unroll 4
          for (uint32_t h = 0; h < Queries; h++) {
            const __m512 q = _mm512_set1_ps(rotated[h * block.head_dim + j]);
            sums[g][h] = j == 0 ? _mm512_mul_ps(value, q) : _mm512_fmadd_ps(value, q, sums[g][h]);
          }
        }
      }
#pragma GCC unroll 2
      for (uint32_t g = 0; g < kGroups; g++) {
        const __m512 weight = decode_weights(weights[g][unit % 4], s);
#pragma GCC unroll 4
        for (uint32_t h = 0; h < Queries; h++) estimates[g][h] = _mm512_fmadd_ps(weight, sums[g][h], estimates[g][h]);
      }
    }
  }
  for (uint32_t g = 0; g < kGroups; g++) {
    const uint32_t left = block.keys < g * kLanes ? 0 : block.keys - g * kLanes;
    const auto lanes = static_cast<__mmask16>(left >= kLanes ? 0xffff : (1u << left) - 1);
    for (uint32_t h = 0; h < Queries; h++)
      _mm512_mask_storeu_ps(block.estimates + h * block.estimate_stride + g * kLanes, lanes, estimates[g][h]);
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

void add_softmax(const float* x, size_t count, float scale, float reference, float* exps, float* y) {
  const __m512 scales = _mm512_set1_ps(scale), references = _mm512_set1_ps(reference);
  double total = 0;
  for (size_t begin = 0; begin < count; begin += kChunk) {
    const size_t end = count - begin < kChunk ? count : begin + kChunk;
    __m512 sum = _mm512_setzero_ps();
    for (size_t i = begin; i < end; i += kLanes) {
      const __mmask16 lanes = lanes_of(end - i);
      const __m512 v = _mm512_maskz_loadu_ps(lanes, x + i);
      const __m512 term = exp_avx512(_mm512_fmsub_ps(scales, v, references));
      _mm512_mask_storeu_ps(exps + i, lanes, term);
      sum = _mm512_mask_add_ps(sum, finite_lanes(lanes, v), sum, term);
    }
    total += static_cast<double>(_mm512_reduce_add_ps(sum));
  }
  const __m512 share = _mm512_set1_ps(static_cast<float>(1 / total));
  for (size_t i = 0; i < count; i += kLanes) {
    const __mmask16 lanes = lanes_of(count - i);
    const __m512 before = _mm512_maskz_loadu_ps(lanes, y + i);
    _mm512_mask_storeu_ps(y + i, lanes, _mm512_fmadd_ps(share, _mm512_maskz_loadu_ps(lanes, exps + i), before));
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

const RerankKernels rerank_avx512 = {estimate, 0, largest, exp_sum, raise_to_share, add_softmax, moments};

}  // namespace pkv::cpu
