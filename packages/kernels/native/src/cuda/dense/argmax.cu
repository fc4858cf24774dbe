// argmax: the greedy choice of each row, ties to the smaller index. NaN never wins; a row of NaN alone gives 0.
// Costs each element once read.
#include "cuda/launch.h"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kWarpLanes = 32;
constexpr uint32_t kEveryLane = 0xffffffffu;
constexpr uint32_t kNone = INT32_MAX;
constexpr uint32_t kWarps = tuning::argmax_threads / kWarpLanes;
static_assert(kWarps <= kWarpLanes, "one warp finishes");

struct Best {
  float value;
  uint32_t index;
};

__device__ Best better(Best a, Best b) {
  return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a;
}

__device__ Best warp_best(Best best) {
#pragma unroll
  for (uint32_t distance = kWarpLanes / 2; distance >= 1; distance /= 2) {
    const Best other{__shfl_xor_sync(kEveryLane, best.value, distance),
                     __shfl_xor_sync(kEveryLane, best.index, distance)};
    best = better(best, other);
  }
  return best;
}

// One block a row.
__global__ void __launch_bounds__(tuning::argmax_threads) argmax_kernel(ArgmaxParams p) {
  __shared__ Best found[kWarps];
  const float* const x = p.x.row(blockIdx.x);
  const uint32_t warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  Best best{-INFINITY, kNone};
  for (uint32_t c = threadIdx.x; c < p.width; c += blockDim.x) best = better(best, {x[c], c});
  best = warp_best(best);
  if (lane == 0) found[warp] = best;
  __syncthreads();
  if (warp != 0) return;
  best = warp_best(lane < kWarps ? found[lane] : Best{-INFINITY, kNone});
  if (lane == 0) p.out[blockIdx.x] = best.index == kNone ? 0 : static_cast<int32_t>(best.index);
}

}  // namespace

void argmax(Runtime& runtime, const ArgmaxParams& params) {
  launch(runtime, "argmax", argmax_kernel, {dim3(params.row_count), dim3(tuning::argmax_threads)}, params);
}

}  // namespace pkv::cuda
