#include <immintrin.h>

#include "cpu/dense/swiglu_kernels.h"
#include "cpu/exp_avx512.h"

namespace pkv::cpu {

void swiglu_row_avx512(const float* gate, const float* up, uint32_t width, float* out) {
  constexpr uint32_t kLanes = 16;
  const __m512 one = _mm512_set1_ps(1.0f);
  for (uint32_t c = 0; c < width; c += kLanes) {
    const uint32_t rest = width - c;
    const __mmask16 mask = rest >= kLanes ? 0xffff : static_cast<__mmask16>((1u << rest) - 1);
    const __m512 g = _mm512_maskz_loadu_ps(mask, gate + c);
    // Below -88 the result is less than 1e-36; the bound keeps exp in its range.
    const __m512 e = exp_avx512(_mm512_min_ps(_mm512_set1_ps(88.0f), _mm512_sub_ps(_mm512_setzero_ps(), g)));
    const __m512 silu = _mm512_div_ps(g, _mm512_add_ps(one, e));
    _mm512_mask_storeu_ps(out + c, mask, _mm512_mul_ps(silu, _mm512_maskz_loadu_ps(mask, up + c)));
  }
}

}  // namespace pkv::cpu
