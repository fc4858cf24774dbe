// The codec as kernels take it: by value, since a cache's own copy lies in host memory.
#pragma once
#include "core/operators.h"

namespace pkv::cuda {

struct Codec {
  uint32_t negative[PKV_MAX_HEAD_DIM / 32];  // bit j % 32 of word j / 32: sign j of the rotation is -1
  float centres[PKV_MAGNITUDE_LEVELS];
  float thresholds[PKV_MAGNITUDE_LEVELS - 1];

  explicit Codec(const Cache& cache) : negative{} {
    for (uint32_t j = 0; j < cache.head_dim; ++j) {
      if (cache.signs[j] < 0) negative[j / 32] |= 1u << j % 32;
    }
    for (uint32_t level = 0; level < PKV_MAGNITUDE_LEVELS; ++level) centres[level] = cache.centres[level];
    for (uint32_t level = 0; level + 1 < PKV_MAGNITUDE_LEVELS; ++level) thresholds[level] = cache.thresholds[level];
  }

  __device__ bool is_negative(uint32_t j) const { return negative[j / 32] >> j % 32 & 1; }
};

// fround(1 / sqrt(head_dim)), the last factor of the rotation.
__host__ __device__ inline float rotation_scale(uint32_t head_dim) {
  return static_cast<float>(1.0 / sqrt(static_cast<double>(head_dim)));
}

}  // namespace pkv::cuda
