// rmsnorm: out = x / sqrt(mean(x²) + eps) * weight, group by group. `out` may be `x`.
// Costs each element twice read, the second time from a cache, and once written.
#include <algorithm>

#include "cuda/launch.h"
#include "cuda/reduce.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kWarpLanes = 32;

// The sum over a block of whole warps, in every thread. `shared` is used once.
__device__ float sum_of_block(float value, float (&shared)[kWarpLanes]) {
  const uint32_t warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  value = warp_reduce(value, Sum{});
  if (lane == 0) shared[warp] = value;
  __syncthreads();
  return warp_reduce(lane < blockDim.x / kWarpLanes ? shared[lane] : 0.0f, Sum{});
}

// One block a group.
__global__ void __launch_bounds__(tuning::rmsnorm_threads) rmsnorm_kernel(RmsnormParams p) {
  __shared__ float sums[kWarpLanes];
  const uint32_t row = blockIdx.x / p.groups, group = blockIdx.x % p.groups;
  const float* const x = p.x.row(row) + static_cast<size_t>(group) * p.width;
  float* const out = p.out.row(row) + static_cast<size_t>(group) * p.width;
  float squares = 0;
  for (uint32_t c = threadIdx.x; c < p.width; c += blockDim.x) squares += x[c] * x[c];
  const float mean = sum_of_block(squares, sums) / static_cast<float>(p.width);
  const float scale = 1.0f / sqrtf(mean + p.eps);
  for (uint32_t c = threadIdx.x; c < p.width; c += blockDim.x) out[c] = x[c] * scale * p.weight[c];
}

}  // namespace

void rmsnorm(Runtime& runtime, const RmsnormParams& params) {
  const uint32_t warps = std::min((params.width + kWarpLanes - 1) / kWarpLanes, tuning::rmsnorm_threads / kWarpLanes);
  launch(runtime, "rmsnorm", rmsnorm_kernel, {dim3(params.row_count * params.groups), dim3(warps * kWarpLanes)},
         params);
}

}  // namespace pkv::cuda
