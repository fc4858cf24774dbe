#include <immintrin.h>

#include "cpu/dense/swiglu_kernels.h"
#include "cpu/exp_avx2.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kLanes = 8;

__m256 swiglu_of(__m256 gate, __m256 up) {
  // Below -88 the result is less than 1e-36; the bound keeps exp in its range.
  const __m256 e = exp_avx2(_mm256_min_ps(_mm256_set1_ps(88.0f), _mm256_sub_ps(_mm256_setzero_ps(), gate)));
  return _mm256_mul_ps(_mm256_div_ps(gate, _mm256_add_ps(_mm256_set1_ps(1.0f), e)), up);
}

}  // namespace

void swiglu_row_avx2(const float* gate, const float* up, uint32_t width, float* out) {
  uint32_t c = 0;
  for (; c + kLanes <= width; c += kLanes) {
    _mm256_storeu_ps(out + c, swiglu_of(_mm256_loadu_ps(gate + c), _mm256_loadu_ps(up + c)));
  }
  if (c == width) return;
  alignas(32) float gate_part[kLanes] = {}, up_part[kLanes] = {};
  for (uint32_t l = 0; c + l < width; l++) {
    gate_part[l] = gate[c + l];
    up_part[l] = up[c + l];
  }
  _mm256_store_ps(gate_part, swiglu_of(_mm256_load_ps(gate_part), _mm256_load_ps(up_part)));
  for (uint32_t l = 0; c + l < width; l++) out[c + l] = gate_part[l];
}

}  // namespace pkv::cpu
