// Sixteen horizontal sums at once: 15 additions and 30 shuffles, where one by one they cost 64 of each. `static`: no
// weak symbols.
#pragma once
#include <immintrin.h>

namespace pkv::cpu {

// Lane i of the result is the sum of the lanes of x[i].
static inline __m512 sum_lanes_avx512(const __m512 (&x)[16]) {
  __m512 quads[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    const __m512 *a = x + 4 * i, *b = a + 1, *c = a + 2, *e = a + 3;
    const __m512d ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(*a, *b), _mm512_unpackhi_ps(*a, *b)));
    const __m512d ce = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(*c, *e), _mm512_unpackhi_ps(*c, *e)));
    quads[i] =
        _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, ce)), _mm512_castpd_ps(_mm512_unpackhi_pd(ab, ce)));
  }
  const __m512 low =
      _mm512_add_ps(_mm512_shuffle_f32x4(quads[0], quads[1], 0x88), _mm512_shuffle_f32x4(quads[0], quads[1], 0xdd));
  const __m512 high =
      _mm512_add_ps(_mm512_shuffle_f32x4(quads[2], quads[3], 0x88), _mm512_shuffle_f32x4(quads[2], quads[3], 0xdd));
  return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
}

}  // namespace pkv::cpu
