#include "cuda/time_read.h"

#include "cuda/launch.h"
#include "cuda/memory.cuh"
#include "cuda/resources.h"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

// Nothing is written, so that only reads are timed; the branch that is never taken keeps the compiler from seeing that.
__global__ void __launch_bounds__(tuning::read_threads) read_kernel(const uint4* from, size_t parts, uint32_t* never) {
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  uint32_t any = 0;
  constexpr uint32_t kAtOnce = 8;  // independent loads in flight
  for (; i + (kAtOnce - 1) * step < parts; i += kAtOnce * step) {
    uint4 part[kAtOnce];
#pragma unroll
    for (uint32_t k = 0; k < kAtOnce; ++k) part[k] = load_once(from + i + k * step);
#pragma unroll
    for (uint32_t k = 0; k < kAtOnce; ++k) any |= part[k].x ^ part[k].y ^ part[k].z ^ part[k].w;
  }
  for (; i < parts; i += step) {
    const uint4 part = load_once(from + i);
    any |= part.x ^ part.y ^ part.z ^ part.w;
  }
  if (never != nullptr) *never = any;
}

}  // namespace

double time_read(const Runtime& runtime, const uint8_t* from, size_t bytes) {
  const Event begin(cudaEventDefault), end(cudaEventDefault);
  const size_t parts = bytes / sizeof(uint4);  // buffers begin at multiples of 64 bytes; at most 15 are left out
  const auto read = [&](size_t count) {
    launch(runtime, "time_read", read_kernel,
           {dim3(runtime.multiprocessors * tuning::read_blocks_per_multiprocessor), dim3(tuning::read_threads)},
           reinterpret_cast<const uint4*>(from), count, static_cast<uint32_t*>(nullptr));
  };
  read(0);  // the first launch of a kernel loads its code
  check(cudaEventRecord(begin, runtime.stream), "cudaEventRecord");
  read(parts);
  check(cudaEventRecord(end, runtime.stream), "cudaEventRecord");
  check(cudaEventSynchronize(end), "cudaEventSynchronize");
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
  return milliseconds * 1e-3;
}

}  // namespace pkv::cuda
