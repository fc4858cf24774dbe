// swiglu: the gated activation of the MLP, silu(gate) * up. `out` may be `x`. Costs two elements read for one written.
#include "cuda/launch.h"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

__global__ void __launch_bounds__(tuning::swiglu_threads) swiglu_kernel(SwigluParams p) {
  const size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const size_t row = i / p.width;
  if (row >= p.row_count) return;
  const size_t c = i % p.width;
  const float* const x = p.x.row(row);
  const float gate = x[c], up = x[p.width + c];
  p.out.row(row)[c] = gate / (1.0f + expf(-gate)) * up;
}

}  // namespace

void swiglu(Runtime& runtime, const SwigluParams& params) {
  const size_t elements = static_cast<size_t>(params.row_count) * params.width;
  const size_t blocks = (elements + tuning::swiglu_threads - 1) / tuning::swiglu_threads;
  launch(runtime, "swiglu", swiglu_kernel, {dim3(static_cast<uint32_t>(blocks)), dim3(tuning::swiglu_threads)}, params);
}

}  // namespace pkv::cuda
