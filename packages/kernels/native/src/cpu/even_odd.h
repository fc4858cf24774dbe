// The order in which some kernels want a row: in every block of `interleave` elements the even ones, then the odd ones.
// For drivers only (see cpu.h).
#pragma once
#include <cstdint>

namespace pkv::cpu {

// `natural` times `factor` in a kernel's order; `interleave` divides `count`, or is 0 for the natural order.
inline void to_even_odd(const float* __restrict natural, uint32_t count, uint32_t interleave, float factor,
                        float* __restrict ordered) {
  const uint32_t half = interleave / 2;
  for (uint32_t i = 0; interleave == 0 && i < count; i++) ordered[i] = natural[i] * factor;
  for (uint32_t begin = 0; interleave != 0 && begin < count; begin += interleave) {
    for (uint32_t i = 0; i < half; i++) {
      ordered[begin + i] = natural[begin + 2 * i] * factor;
      ordered[begin + half + i] = natural[begin + 2 * i + 1] * factor;
    }
  }
}

// The way back.
inline void from_even_odd(const float* __restrict ordered, uint32_t count, uint32_t interleave, float factor,
                          float* __restrict natural) {
  const uint32_t half = interleave / 2;
  for (uint32_t i = 0; interleave == 0 && i < count; i++) natural[i] = ordered[i] * factor;
  for (uint32_t begin = 0; interleave != 0 && begin < count; begin += interleave) {
    for (uint32_t i = 0; i < half; i++) {
      natural[begin + 2 * i] = ordered[begin + i] * factor;
      natural[begin + 2 * i + 1] = ordered[begin + half + i] * factor;
    }
  }
}

}  // namespace pkv::cpu
