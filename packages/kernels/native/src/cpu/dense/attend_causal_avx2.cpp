// attend_causal with AVX2 and FMA: strips of 16 query rows; four keys (or four elements of V) at a time against two
// vectors of queries: eight sums, two queries and the broadcast leave room in 16 registers.
#include <immintrin.h>

#include "cpu/dense/attend_causal_kernels.h"
#include "cpu/exp_avx2.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kLanes = 16;
constexpr uint32_t kVectors = 2;
constexpr uint32_t kVectorLanes = 8;
constexpr uint32_t kTogether = 4;

bool widen(const void* source, Dtype dtype, uint32_t head_dim, float* target) {
  const auto* floats = static_cast<const float*>(source);
  const auto* halves = static_cast<const uint16_t*>(source);
  __m256i largest = _mm256_setzero_si256();  // of the bits without sign
  for (uint32_t c = 0; c < head_dim; c += kVectorLanes) {
    __m256 value;
    if (dtype == Dtype::f32) {
      value = _mm256_loadu_ps(floats + c);
    } else {
      const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(halves + c));
      value = dtype == Dtype::f16 ? _mm256_cvtph_ps(bits)
                                  : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    }
    const __m256i magnitude = _mm256_and_si256(_mm256_castps_si256(value), _mm256_set1_epi32(0x7fffffff));
    largest = _mm256_max_epi32(largest, magnitude);
    _mm256_storeu_ps(target + c, value);
  }
  const __m256i not_finite = _mm256_cmpgt_epi32(largest, _mm256_set1_epi32(0x7f7fffff));
  return _mm256_testz_si256(not_finite, not_finite) != 0;
}

void logits(const float* queries, const float* keys, size_t key_stride, uint32_t key_count, uint32_t head_dim,
            float* out) {
  for (uint32_t key = 0; key < key_count; key += kTogether) {
    const float* k = keys + key * key_stride;
    __m256 sums[kTogether][kVectors];
    for (uint32_t i = 0; i < kTogether; i++) sums[i][0] = sums[i][1] = _mm256_setzero_ps();
    for (uint32_t c = 0; c < head_dim; c++) {
      const __m256 q0 = _mm256_loadu_ps(queries + c * kLanes);
      const __m256 q1 = _mm256_loadu_ps(queries + c * kLanes + kVectorLanes);
      for (uint32_t i = 0; i < kTogether; i++) {
        const __m256 element = _mm256_broadcast_ss(k + i * key_stride + c);
        sums[i][0] = _mm256_fmadd_ps(element, q0, sums[i][0]);
        sums[i][1] = _mm256_fmadd_ps(element, q1, sums[i][1]);
      }
    }
    for (uint32_t i = 0; i < kTogether; i++) {
      _mm256_storeu_ps(out + (key + i) * kLanes, sums[i][0]);
      _mm256_storeu_ps(out + (key + i) * kLanes + kVectorLanes, sums[i][1]);
    }
  }
}

void weigh(float* weights, uint32_t key_count, const int32_t* visible, const CausalState& state) {
  const __m256 nothing = _mm256_set1_ps(-__builtin_inff());
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  const __m256 infinity = _mm256_set1_ps(__builtin_inff());
  for (uint32_t lane = 0; lane < kLanes; lane += kVectorLanes) {
    const __m256i last = visible == nullptr
                             ? _mm256_set1_epi32(static_cast<int>(key_count))
                             : _mm256_loadu_si256(reinterpret_cast<const __m256i*>(visible + lane));
    const __m256 older = _mm256_loadu_ps(state.maximum + lane);
    __m256 maximum = older;
    for (uint32_t key = 0; key < key_count; key++) {
      float* at = weights + key * kLanes + lane;
      __m256 logit = _mm256_loadu_ps(at);
      const __m256 finite = _mm256_cmp_ps(_mm256_and_ps(logit, magnitude), infinity, _CMP_LT_OQ);
      const __m256i seen = _mm256_cmpgt_epi32(last, _mm256_set1_epi32(static_cast<int>(key)));
      logit = _mm256_blendv_ps(nothing, logit, _mm256_and_ps(finite, _mm256_castsi256_ps(seen)));
      maximum = _mm256_max_ps(maximum, logit);
      _mm256_storeu_ps(at, logit);
    }
    // Without any logit the maximum is -infinity; 0 in its place keeps every difference a number.
    const __m256 some = _mm256_cmp_ps(maximum, nothing, _CMP_NEQ_OQ);
    const __m256 base = _mm256_and_ps(maximum, some);
    __m256 total = _mm256_setzero_ps();
    for (uint32_t key = 0; key < key_count; key++) {
      float* at = weights + key * kLanes + lane;
      const __m256 weight = exp_avx2(_mm256_sub_ps(_mm256_loadu_ps(at), base));
      total = _mm256_add_ps(total, weight);
      _mm256_storeu_ps(at, weight);
    }
    const __m256 kept = exp_avx2(_mm256_sub_ps(older, base));
    _mm256_storeu_ps(state.maximum + lane, maximum);
    _mm256_storeu_ps(state.kept + lane, kept);
    _mm256_storeu_ps(state.total + lane, _mm256_fmadd_ps(_mm256_loadu_ps(state.total + lane), kept, total));
  }
}

void add_values(const float* weights, const float* values, size_t value_stride, uint32_t key_count, uint32_t head_dim,
                const float* kept, float* sums) {
  const __m256 kept0 = _mm256_loadu_ps(kept);
  const __m256 kept1 = _mm256_loadu_ps(kept + kVectorLanes);
  for (uint32_t c = 0; c < head_dim; c += kTogether) {
    __m256 added[kTogether][kVectors];
    for (uint32_t i = 0; i < kTogether; i++) added[i][0] = added[i][1] = _mm256_setzero_ps();
    for (uint32_t key = 0; key < key_count; key++) {
      const float* v = values + key * value_stride + c;
      const __m256 w0 = _mm256_loadu_ps(weights + key * kLanes);
      const __m256 w1 = _mm256_loadu_ps(weights + key * kLanes + kVectorLanes);
      for (uint32_t i = 0; i < kTogether; i++) {
        const __m256 element = _mm256_broadcast_ss(v + i);
        added[i][0] = _mm256_fmadd_ps(element, w0, added[i][0]);
        added[i][1] = _mm256_fmadd_ps(element, w1, added[i][1]);
      }
    }
    for (uint32_t i = 0; i < kTogether; i++) {
      float* sum = sums + (c + i) * kLanes;
      _mm256_storeu_ps(sum, _mm256_fmadd_ps(_mm256_loadu_ps(sum), kept0, added[i][0]));
      _mm256_storeu_ps(sum + kVectorLanes,
                       _mm256_fmadd_ps(_mm256_loadu_ps(sum + kVectorLanes), kept1, added[i][1]));
    }
  }
}

}  // namespace

const AttendCausalKernels attend_causal_avx2 = {kLanes, widen, logits, weigh, add_values};

}  // namespace pkv::cpu
