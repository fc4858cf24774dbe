// attend_causal with AVX-512: strips of 32 query rows; eight keys (or eight elements of V) at a time against two
// vectors of queries, ten loads for 16 fused multiply-adds.
#include <immintrin.h>

#include "cpu/dense/attend_causal_kernels.h"
#include "cpu/exp_avx512.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kLanes = 32;
constexpr uint32_t kVectors = 2;
constexpr uint32_t kVectorLanes = 16;

bool widen(const void* source, Dtype dtype, uint32_t head_dim, float* target) {
  const auto* floats = static_cast<const float*>(source);
  const auto* halves = static_cast<const uint16_t*>(source);
  __m512i largest = _mm512_setzero_si512();  // of the bits without sign
  for (uint32_t c = 0; c < head_dim; c += kVectorLanes) {
    __m512 value;
    if (dtype == Dtype::f32) {
      value = _mm512_loadu_ps(floats + c);
    } else {
      const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves + c));
      value = dtype == Dtype::f16 ? _mm512_cvtph_ps(bits)
                                  : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
    const __m512i magnitude = _mm512_and_si512(_mm512_castps_si512(value), _mm512_set1_epi32(0x7fffffff));
    largest = _mm512_max_epu32(largest, magnitude);
    _mm512_storeu_ps(target + c, value);
  }
  return _mm512_cmpge_epu32_mask(largest, _mm512_set1_epi32(0x7f800000)) == 0;
}

void logits(const float* queries, const float* keys, size_t key_stride, uint32_t key_count, uint32_t head_dim,
            float* out) {
  for (uint32_t key = 0; key < key_count; key += kCausalStep) {
    const float* k = keys + key * key_stride;
    __m512 sums[kCausalStep][kVectors];
    for (uint32_t i = 0; i < kCausalStep; i++) sums[i][0] = sums[i][1] = _mm512_setzero_ps();
    for (uint32_t c = 0; c < head_dim; c++) {
      const __m512 q0 = _mm512_loadu_ps(queries + c * kLanes);
      const __m512 q1 = _mm512_loadu_ps(queries + c * kLanes + kVectorLanes);
      for (uint32_t i = 0; i < kCausalStep; i++) {
        const __m512 element = _mm512_set1_ps(k[i * key_stride + c]);
        sums[i][0] = _mm512_fmadd_ps(element, q0, sums[i][0]);
        sums[i][1] = _mm512_fmadd_ps(element, q1, sums[i][1]);
      }
    }
    for (uint32_t i = 0; i < kCausalStep; i++) {
      _mm512_storeu_ps(out + (key + i) * kLanes, sums[i][0]);
      _mm512_storeu_ps(out + (key + i) * kLanes + kVectorLanes, sums[i][1]);
    }
  }
}

void weigh(float* weights, uint32_t key_count, const int32_t* visible, const CausalState& state) {
  constexpr int kNotFinite = 0x99;  // quiet and signalling NaN, both infinities
  const __m512 nothing = _mm512_set1_ps(-__builtin_inff());
  for (uint32_t lane = 0; lane < kLanes; lane += kVectorLanes) {
    const __m512i last = visible == nullptr ? _mm512_set1_epi32(static_cast<int>(key_count))
                                            : _mm512_loadu_si512(visible + lane);
    const __m512 older = _mm512_loadu_ps(state.maximum + lane);
    __m512 maximum = older;
    for (uint32_t key = 0; key < key_count; key++) {
      float* at = weights + key * kLanes + lane;
      __m512 logit = _mm512_loadu_ps(at);
      const __mmask16 hidden = _mm512_fpclass_ps_mask(logit, kNotFinite) |
                               _mm512_cmple_epi32_mask(last, _mm512_set1_epi32(static_cast<int>(key)));
      logit = _mm512_mask_mov_ps(logit, hidden, nothing);
      maximum = _mm512_max_ps(maximum, logit);
      _mm512_storeu_ps(at, logit);
    }
    // Without any logit the maximum is -infinity; 0 in its place keeps every difference a number.
    const __mmask16 none = _mm512_cmp_ps_mask(maximum, nothing, _CMP_EQ_OQ);
    const __m512 base = _mm512_mask_mov_ps(maximum, none, _mm512_setzero_ps());
    __m512 total = _mm512_setzero_ps();
    for (uint32_t key = 0; key < key_count; key++) {
      float* at = weights + key * kLanes + lane;
      const __m512 weight = exp_avx512(_mm512_sub_ps(_mm512_loadu_ps(at), base));
      total = _mm512_add_ps(total, weight);
      _mm512_storeu_ps(at, weight);
    }
    const __m512 kept = exp_avx512(_mm512_sub_ps(older, base));
    _mm512_storeu_ps(state.maximum + lane, maximum);
    _mm512_storeu_ps(state.kept + lane, kept);
    _mm512_storeu_ps(state.total + lane, _mm512_fmadd_ps(_mm512_loadu_ps(state.total + lane), kept, total));
  }
}

void add_values(const float* weights, const float* values, size_t value_stride, uint32_t key_count, uint32_t head_dim,
                const float* kept, float* sums) {
  constexpr uint32_t kElements = 8;
  const __m512 kept0 = _mm512_loadu_ps(kept);
  const __m512 kept1 = _mm512_loadu_ps(kept + kVectorLanes);
  for (uint32_t c = 0; c < head_dim; c += kElements) {
    __m512 added[kElements][kVectors];
    for (uint32_t i = 0; i < kElements; i++) added[i][0] = added[i][1] = _mm512_setzero_ps();
    for (uint32_t key = 0; key < key_count; key++) {
      const float* v = values + key * value_stride + c;
      const __m512 w0 = _mm512_loadu_ps(weights + key * kLanes);
      const __m512 w1 = _mm512_loadu_ps(weights + key * kLanes + kVectorLanes);
      for (uint32_t i = 0; i < kElements; i++) {
        const __m512 element = _mm512_set1_ps(v[i]);
        added[i][0] = _mm512_fmadd_ps(element, w0, added[i][0]);
        added[i][1] = _mm512_fmadd_ps(element, w1, added[i][1]);
      }
    }
    for (uint32_t i = 0; i < kElements; i++) {
      float* sum = sums + (c + i) * kLanes;
      _mm512_storeu_ps(sum, _mm512_fmadd_ps(_mm512_loadu_ps(sum), kept0, added[i][0]));
      _mm512_storeu_ps(sum + kVectorLanes,
                       _mm512_fmadd_ps(_mm512_loadu_ps(sum + kVectorLanes), kept1, added[i][1]));
    }
  }
}

}  // namespace

const AttendCausalKernels attend_causal_avx512 = {kLanes, widen, logits, weigh, add_values};

}  // namespace pkv::cpu
