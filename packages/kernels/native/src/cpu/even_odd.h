// The order in which some kernels want a row: in every block of `interleave` elements the even ones, then the odd ones.
// For drivers only (see cpu.h).
#pragma once
#include <cstdint>

namespace pkv::cpu {

// Where element `i` of a kernel's row lies in the natural order; `interleave` is a power of two, or 0 for the natural order.
inline uint32_t natural_index(uint32_t i, uint32_t interleave) {
  if (interleave == 0) return i;
  const uint32_t within = i & (interleave - 1), half = interleave / 2;
  return i - within + (within < half ? 2 * within : 2 * (within - half) + 1);
}

}  // namespace pkv::cpu
