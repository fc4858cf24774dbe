// One element of K or V to f32, for portable code.
#pragma once
#include <cstdint>
#include <cstring>

namespace pkv::cpu {

inline float bf16_to_f32(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

inline float f16_to_f32(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t magnitude = bits & 0x7fffu;
  if (magnitude < 0x0400u) {  // zero and subnormal: a multiple of 2^-24, exact in f32
    const float value = static_cast<float>(magnitude) * 5.9604644775390625e-8f;
    return sign ? -value : value;
  }
  const uint32_t exponent_shift = magnitude >= 0x7c00u ? (255u - 31u) << 23 : (127u - 15u) << 23;
  const uint32_t wide = sign | ((magnitude << 13) + exponent_shift);
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

}  // namespace pkv::cpu
