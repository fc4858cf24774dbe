// rope: rotary position embedding in place. The angle position * frequency is taken in double, where it is exact up to
// 2^29 tokens, so that its sine and cosine are right to f32 wherever a token stands. Costs each element once read and
// written.
#include "cuda/launch.h"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

// One block a row: an angle is computed once for all heads.
__global__ void __launch_bounds__(tuning::rope_threads) rope_kernel(RopeParams p) {
  const uint32_t row = blockIdx.x;
  if (p.step.slot(row) < 0) return;
  const double position = static_cast<double>(p.step.position(row));
  const uint32_t half = p.head_dim / 2;
  for (uint32_t j = threadIdx.x; j < half; j += blockDim.x) {
    double sine, cosine;
    sincos(position * static_cast<double>(p.frequencies[j]), &sine, &cosine);
    const float s = static_cast<float>(sine), c = static_cast<float>(cosine);
    float* x = p.x.row(row) + j;
    for (uint32_t head = 0; head < p.heads; ++head, x += p.head_dim) {
      const float a = x[0], b = x[half];
      x[0] = a * c - b * s;
      x[half] = b * c + a * s;
    }
  }
}

}  // namespace

void rope(Runtime& runtime, const RopeParams& params) {
  launch(runtime, "rope", rope_kernel, {dim3(params.step.row_count), dim3(tuning::rope_threads)}, params);
}

}  // namespace pkv::cuda
