// embed: rows of the embedding table, widened to f32. Costs each element of those rows once read and once written.
#include "cuda/kv_element.cuh"
#include "cuda/launch.h"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

__global__ void __launch_bounds__(tuning::embed_threads) embed_kernel(EmbedParams p) {
  const int32_t token = p.tokens[blockIdx.x];
  const bool known = token >= 0 && static_cast<uint32_t>(token) < p.vocab;
  const size_t first = known ? static_cast<size_t>(token) * p.width : 0;
  float* const out = p.out.row(blockIdx.x);
  for (uint32_t c = threadIdx.x; c < p.width; c += blockDim.x)
    out[c] = known ? widen(p.weight, p.dtype, first + c) : 0.0f;
}

}  // namespace

void embed(Runtime& runtime, const EmbedParams& params) {
  launch(runtime, "embed", embed_kernel, {dim3(params.row_count), dim3(tuning::embed_threads)}, params);
}

}  // namespace pkv::cuda
