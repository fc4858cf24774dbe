// Reductions over a block of 1024 threads in a fixed order, so that results are the same in every run.
#pragma once
#include <cstdint>

namespace pkv::cuda {

// Every lane gets the result. `op` must not care for the order of its two arguments.
template <class T, class Op>
__device__ T warp_reduce(T value, const Op& op) {
#pragma unroll
  for (uint32_t offset = 16; offset > 0; offset /= 2) value = op(value, __shfl_xor_sync(0xffffffffu, value, offset));
  return value;
}

// Every thread gets the result. partials: shared memory that nobody else uses until the block's next barrier is over.
template <class T, class Op>
__device__ T block_reduce(T value, T (&partials)[32], const Op& op) {
  const T of_warp = warp_reduce(value, op);
  if (threadIdx.x % 32 == 0) partials[threadIdx.x / 32] = of_warp;
  __syncthreads();
  const T result = warp_reduce(partials[threadIdx.x % 32], op);
  __syncthreads();
  return result;
}

struct Largest {
  template <class T>
  __device__ T operator()(T a, T b) const { return a > b ? a : b; }
};
struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const { return a + b; }
};

// Sums of numbers in 0..1 as integers: they depend on no order, hence on no division of the work. Each is rounded to 2^-41;
// beside a largest term of 1 the sum of 2^22 terms is right to 2^-19 at worst, and to 2^-30 where roundings are random.
// 2^23 terms fit.
using FixedSum = unsigned long long;
constexpr double kFixedOne = 1099511627776.0;  // 2^40

__device__ inline FixedSum to_fixed(float value) { return __float2ull_rn(value * static_cast<float>(kFixedOne)); }
__device__ inline double from_fixed(FixedSum sum) { return static_cast<double>(sum) / kFixedOne; }

}  // namespace pkv::cuda
