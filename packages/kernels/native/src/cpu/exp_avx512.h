// exp of sixteen floats, for arguments up to 88. Relative error at most 1e-7 (checked over all floats of [-87, 0] in
// native/bench/retrieval_exp.cpp); NaN and anything below -104, -infinity included, give 0. `static`: no weak symbols.
#pragma once
#include <immintrin.h>

namespace pkv::cpu {

static inline __m512 exp_avx512(__m512 x) {
  x = _mm512_max_ps(x, _mm512_set1_ps(-104.0f));  // exp(-104) rounds to 0; max_ps takes its second operand for NaN
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  // ln 2 in two parts; the first has 10 significant bits, so n times it is exact.
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  // 1 + r + r² P(r): minimax on |r| <= ln 2 / 2, error 3.1e-9 before rounding.
  __m512 p = _mm512_set1_ps(1.3814540e-3f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3687451e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1668391e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666520e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.9999993e-1f));
  p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), p, r);
  return _mm512_scalef_ps(_mm512_add_ps(p, _mm512_set1_ps(1.0f)), n);
}

}  // namespace pkv::cpu
