// The weight byte of a subspace (E5M3, unsigned) to f32, for portable code.
#pragma once
#include <cstdint>
#include <cstring>

#include "pkv_spec.h"

namespace pkv::cpu {

inline float decode_weight(uint8_t byte) {
  if (byte == 0) return 0;
  const uint32_t bits = (byte + uint32_t{PKV_WEIGHT_EXPONENT_BIAS}) << PKV_WEIGHT_SHIFT;
  float weight;
  std::memcpy(&weight, &bits, sizeof weight);
  return weight;
}

}  // namespace pkv::cpu
