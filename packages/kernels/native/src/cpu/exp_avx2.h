// exp of eight floats, for arguments up to 88. Relative error at most 1e-7 (checked over all floats of [-87, 0] in
// native/bench/retrieval_exp.cpp); NaN and anything below -87.3, -infinity included, give 0. `static`: no weak symbols.
#pragma once
#include <immintrin.h>

namespace pkv::cpu {

static inline __m256 exp_avx2(__m256 x) {
  const __m256 lowest = _mm256_set1_ps(-87.3f);  // below it 2^n would be subnormal
  const __m256 in_range = _mm256_cmp_ps(x, lowest, _CMP_GE_OQ);
  x = _mm256_max_ps(x, lowest);
  const __m256 n =
      _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  // ln 2 in two parts; the first has 10 significant bits, so n times it is exact.
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  // 1 + r + r² P(r): minimax on |r| <= ln 2 / 2, error 3.1e-9 before rounding.
  __m256 p = _mm256_set1_ps(1.3814540e-3f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3687451e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1668391e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666520e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.9999993e-1f));
  p = _mm256_fmadd_ps(_mm256_mul_ps(r, r), p, r);
  p = _mm256_add_ps(p, _mm256_set1_ps(1.0f));
  const __m256i power = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  return _mm256_and_ps(_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), power)), in_range);
}

}  // namespace pkv::cpu
