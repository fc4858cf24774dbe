// Lanes are coordinates: eight code bytes are two subspaces, their low nibbles the even coordinates and their high ones the
// odd. The three level bits of a nibble index eight centres with one vpermps, and the sign bit, inverted, moves to the
// sign of the float. Weights multiply the levels once and serve every query.
#include <immintrin.h>

#include "cpu/exp_avx2.h"
#include "cpu/rerank_kernels.h"
#include "cpu/sum_lanes_avx2.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kLanes = 8;
constexpr uint32_t kTile = 8;           // keys x queries of one tile
constexpr uint32_t kUnit = 2 * kLanes;  // coordinates of eight code bytes
constexpr uint32_t kUnitSubspaces = kUnit / PKV_SUBSPACE_DIM;
constexpr uint32_t kLineBytes = 64;
constexpr size_t kChunk = 128;  // summands of one f32 partial sum: rounding stays under 1e-6
static_assert(PKV_CODE_SIGN_BIT == 8, "the sign is the top bit of a nibble");

// What the low nibble of each lane stands for.
inline __m256 level_of(__m256i nibbles, __m256 centres) {
  const __m256i positive =
      _mm256_and_si256(_mm256_slli_epi32(nibbles, 28), _mm256_set1_epi32(static_cast<int>(0x80000000u)));
  const __m256 negated = _mm256_sub_ps(_mm256_setzero_ps(), _mm256_permutevar8x32_ps(centres, nibbles));
  return _mm256_xor_ps(negated, _mm256_castsi256_ps(positive));
}

// The weights of two neighbouring subspaces, each in four lanes.
inline __m256 decode_weights(const uint8_t* bytes) {
  const __m256i pair =
      _mm256_setr_epi32(bytes[0], bytes[0], bytes[0], bytes[0], bytes[1], bytes[1], bytes[1], bytes[1]);
  const __m256i bits =
      _mm256_slli_epi32(_mm256_add_epi32(pair, _mm256_set1_epi32(PKV_WEIGHT_EXPONENT_BIAS)), PKV_WEIGHT_SHIFT);
  return _mm256_castsi256_ps(_mm256_andnot_si256(_mm256_cmpeq_epi32(pair, _mm256_setzero_si256()), bits));
}

template <uint32_t Queries>
void estimate_queries(const EstimateBlock& block) {
  constexpr uint32_t tile_keys = Queries == 1 ? 8 : Queries == 2 ? 4 : 2;
  const uint32_t d = block.head_dim;
  const __m256 centres = _mm256_loadu_ps(block.values + PKV_CODE_SIGN_BIT);
  for (uint32_t begin = 0; begin < block.keys; begin += tile_keys) {
    __m256 sums[kTile];
#pragma GCC unroll 8
    for (uint32_t i = 0; i < kTile; i++) sums[i] = _mm256_setzero_ps();
#pragma GCC unroll 8
    for (uint32_t t = 0; t < tile_keys; t++) {
      for (uint32_t byte = 0; byte < d / 2; byte += kLineBytes) {
        _mm_prefetch(reinterpret_cast<const char*>(block.next_codes[begin + t] + byte), _MM_HINT_T0);
      }
      _mm_prefetch(reinterpret_cast<const char*>(block.next_weights[begin + t]), _MM_HINT_T0);
      const uint8_t* codes = block.codes[begin + t];
      const uint8_t* weights = block.weights[begin + t];
      for (uint32_t b = 0; b < d / PKV_SUBSPACE_DIM; b += kUnitSubspaces) {
        const uint32_t coordinate = b * PKV_SUBSPACE_DIM;
        const __m256i pairs =
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + coordinate / 2)));
        const __m256 weight = decode_weights(weights + b);
        const __m256 even = _mm256_mul_ps(weight, level_of(pairs, centres));
        const __m256 odd = _mm256_mul_ps(weight, level_of(_mm256_srli_epi32(pairs, 4), centres));
#pragma GCC unroll 4
        for (uint32_t h = 0; h < Queries; h++) {
          const float* rotated = block.rotated + h * d + coordinate;
          __m256& sum = sums[t * Queries + h];
          sum = _mm256_fmadd_ps(even, _mm256_loadu_ps(rotated), sum);
          sum = _mm256_fmadd_ps(odd, _mm256_loadu_ps(rotated + kLanes), sum);
        }
      }
    }
    alignas(32) float tile[kTile];
    _mm256_store_ps(tile, sum_lanes_avx2(sums));
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

// All ones in the lanes whose index is below `left`.
inline __m256i lanes_of(size_t left) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(left >= kLanes ? static_cast<int>(kLanes) : static_cast<int>(left)),
                            index);
}

inline __m256 finite_lanes(__m256i lanes, __m256 x) {
  const __m256 magnitude = _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)));
  const __m256 infinity = _mm256_castsi256_ps(_mm256_set1_epi32(0x7f800000));
  return _mm256_and_ps(_mm256_castsi256_ps(lanes), _mm256_cmp_ps(magnitude, infinity, _CMP_LT_OQ));
}

float largest(const float* x, size_t count) {
  const __m256 nothing = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xff800000u)));
  __m256 result = nothing;
  for (size_t i = 0; i < count; i += kLanes) {
    const __m256i lanes = lanes_of(count - i);
    const __m256 v = _mm256_maskload_ps(x + i, lanes);
    result = _mm256_max_ps(result, _mm256_blendv_ps(nothing, v, finite_lanes(lanes, v)));
  }
  return largest_lane_avx2(result);
}

double exp_sum(const float* x, size_t count, float scale, float reference) {
  const __m256 scales = _mm256_set1_ps(scale), references = _mm256_set1_ps(reference);
  double total = 0;
  for (size_t begin = 0; begin < count; begin += kChunk) {
    const size_t end = count - begin < kChunk ? count : begin + kChunk;
    __m256 sum = _mm256_setzero_ps();
    for (size_t i = begin; i < end; i += kLanes) {
      const __m256i lanes = lanes_of(end - i);
      const __m256 v = _mm256_maskload_ps(x + i, lanes);
      const __m256 term = exp_avx2(_mm256_fmsub_ps(scales, v, references));
      sum = _mm256_add_ps(sum, _mm256_and_ps(term, finite_lanes(lanes, v)));
    }
    total += static_cast<double>(sum_lanes_avx2(sum));
  }
  return total;
}

void raise_to_share(const float* x, size_t count, float scale, float log_sum, float* y) {
  const __m256 scales = _mm256_set1_ps(scale), log_sums = _mm256_set1_ps(log_sum);
  for (size_t i = 0; i < count; i += kLanes) {
    const __m256i lanes = lanes_of(count - i);
    const __m256 share = _mm256_fmsub_ps(scales, _mm256_maskload_ps(x + i, lanes), log_sums);
    // max_ps takes its second operand where the first is no number.
    _mm256_maskstore_ps(y + i, lanes, _mm256_max_ps(share, _mm256_maskload_ps(y + i, lanes)));
  }
}

void add_softmax(const float* x, size_t count, float scale, float reference, float* exps, float* y) {
  const __m256 scales = _mm256_set1_ps(scale), references = _mm256_set1_ps(reference);
  double total = 0;
  for (size_t begin = 0; begin < count; begin += kChunk) {
    const size_t end = count - begin < kChunk ? count : begin + kChunk;
    __m256 sum = _mm256_setzero_ps();
    for (size_t i = begin; i < end; i += kLanes) {
      const __m256i lanes = lanes_of(end - i);
      const __m256 v = _mm256_maskload_ps(x + i, lanes);
      const __m256 term = exp_avx2(_mm256_fmsub_ps(scales, v, references));
      _mm256_maskstore_ps(exps + i, lanes, term);
      sum = _mm256_add_ps(sum, _mm256_and_ps(term, finite_lanes(lanes, v)));
    }
    total += static_cast<double>(sum_lanes_avx2(sum));
  }
  const __m256 share = _mm256_set1_ps(static_cast<float>(1 / total));
  for (size_t i = 0; i < count; i += kLanes) {
    const __m256i lanes = lanes_of(count - i);
    const __m256 before = _mm256_maskload_ps(y + i, lanes);
    _mm256_maskstore_ps(y + i, lanes, _mm256_fmadd_ps(share, _mm256_maskload_ps(exps + i, lanes), before));
  }
}

inline double sum_lanes(__m256d x) {
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

Moments moments(const float* x, const float* scores, size_t count) {
  Moments sums{};
  __m256d score_sum = _mm256_setzero_pd(), logit_sum = score_sum, score_squares = score_sum, logit_squares = score_sum,
          products = score_sum;
  for (size_t i = 0; i < count; i += kLanes) {
    const __m256i lanes = lanes_of(count - i);
    const __m256 v = _mm256_maskload_ps(x + i, lanes);
    const __m256 finite = finite_lanes(lanes, v);
    const __m256 logits = _mm256_and_ps(v, finite);
    const __m256 kept_scores = _mm256_and_ps(_mm256_maskload_ps(scores + i, lanes), finite);
    sums.count += __builtin_popcount(static_cast<uint32_t>(_mm256_movemask_ps(finite)));
    const auto add = [&](__m128 four_logits, __m128 four_scores) {
      const __m256d logit = _mm256_cvtps_pd(four_logits), score = _mm256_cvtps_pd(four_scores);
      score_sum = _mm256_add_pd(score_sum, score);
      logit_sum = _mm256_add_pd(logit_sum, logit);
      score_squares = _mm256_fmadd_pd(score, score, score_squares);
      logit_squares = _mm256_fmadd_pd(logit, logit, logit_squares);
      products = _mm256_fmadd_pd(score, logit, products);
    };
    add(_mm256_castps256_ps128(logits), _mm256_castps256_ps128(kept_scores));
    add(_mm256_extractf128_ps(logits, 1), _mm256_extractf128_ps(kept_scores, 1));
  }
  sums.scores = sum_lanes(score_sum);
  sums.logits = sum_lanes(logit_sum);
  sums.score_squares = sum_lanes(score_squares);
  sums.logit_squares = sum_lanes(logit_squares);
  sums.products = sum_lanes(products);
  return sums;
}

}  // namespace

const RerankKernels rerank_avx2 = {estimate, kUnit, largest, exp_sum, raise_to_share, add_softmax, moments};

}  // namespace pkv::cpu
