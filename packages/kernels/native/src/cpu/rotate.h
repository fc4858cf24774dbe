// The randomised Hadamard rotation of one vector, in the specified order. For drivers only (see cpu.h).
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace pkv::cpu {

// fround(1 / sqrt(head_dim))
inline float rotation_scale(uint32_t head_dim) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
}

// x = H(signs * x) / sqrt(head_dim); x, signs: [head_dim].
inline void rotate(float* x, const float* signs, uint32_t head_dim) {
  for (uint32_t j = 0; j < head_dim; ++j) x[j] = signs[j] * x[j];
  for (uint32_t half = 1; half < head_dim; half *= 2) {
    for (uint32_t start = 0; start < head_dim; start += 2 * half) {
      for (uint32_t i = start; i < start + half; ++i) {
        const float a = x[i], b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
  const float scale = rotation_scale(head_dim);
  for (uint32_t j = 0; j < head_dim; ++j) x[j] *= scale;
}

}  // namespace pkv::cpu
