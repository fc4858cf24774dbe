// Elements of K, V and weights: to f32, and from f32 to nearest, ties to even. Equal bits to the quantizer's formats.
#pragma once
#include <cuda_fp16.h>

#include "core/operators.h"

namespace pkv::cuda {

__device__ inline float bf16_to_f32(uint16_t bits) { return __uint_as_float(uint32_t{bits} << 16); }
__device__ inline float f16_to_f32(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }

// A NaN stays a NaN and keeps its sign and its payload, where the hardware's conversions give one NaN for all.
__device__ inline uint16_t f32_to_bf16(float value) {
  const uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
__device__ inline uint16_t f32_to_f16(float value) {
  const uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return static_cast<uint16_t>((bits >> 16 & 0x8000u) | 0x7e00u | (bits >> 13 & 0x1ffu));
  }
  return __half_as_ushort(__float2half_rn(value));
}

// Element `index` of an array of `dtype`.
__device__ inline float widen(const void* source, Dtype dtype, size_t index) {
  if (dtype == Dtype::f32) return static_cast<const float*>(source)[index];
  const uint16_t bits = static_cast<const uint16_t*>(source)[index];
  return dtype == Dtype::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
}
__device__ inline void narrow(void* target, Dtype dtype, size_t index, float value) {
  if (dtype == Dtype::f32) {
    static_cast<float*>(target)[index] = value;
  } else {
    static_cast<uint16_t*>(target)[index] = dtype == Dtype::bf16 ? f32_to_bf16(value) : f32_to_f16(value);
  }
}

// Eight 16-bit elements as they lie in memory.
__device__ inline void widen_eight(const uint4& halves, bool bf16, float (&x)[8]) {
  const uint32_t words[4] = {halves.x, halves.y, halves.z, halves.w};
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
    const uint16_t low = static_cast<uint16_t>(words[i]), high = static_cast<uint16_t>(words[i] >> 16);
    x[2 * i] = bf16 ? bf16_to_f32(low) : f16_to_f32(low);
    x[2 * i + 1] = bf16 ? bf16_to_f32(high) : f16_to_f32(high);
  }
}
// Elements 8 * index .. 8 * index + 7 of an array that begins at a multiple of 16 bytes, in loads of 16 bytes.
__device__ inline void widen_eight(const void* source, Dtype dtype, size_t index, float (&x)[8]) {
  const uint4* const parts = static_cast<const uint4*>(source);
  if (dtype != Dtype::f32) return widen_eight(parts[index], dtype == Dtype::bf16, x);
  const float4* const quarters = static_cast<const float4*>(source) + 2 * index;
  const float4 low = quarters[0], high = quarters[1];
  x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
  x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
}

}  // namespace pkv::cuda
