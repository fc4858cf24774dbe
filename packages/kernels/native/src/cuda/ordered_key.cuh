// Floats as integers of the same order.
#pragma once
#include <cstdint>

namespace pkv::cuda {

// -0 and +0 are equal. Neither 0 nor the largest u32 is the key of a number.
__device__ inline uint32_t ordered_key(float value) {
  const uint32_t bits = __float_as_uint(value + 0.0f);
  return bits ^ (static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | 0x80000000u);
}

}  // namespace pkv::cuda
