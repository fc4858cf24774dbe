// append: K and V of each row, rounded to the cache's element type, into the window (docs/mathematics.md §3).
// Costs 8 bytes read and 2 or 4 bytes written for each element of K and V.
#include "cuda/kv_element.cuh"
#include "cuda/launch.h"

namespace pkv::cuda {
namespace {

// One block a row and KV head, one thread a coordinate.
__global__ void append_kernel(Cache cache, uint32_t layer, Step step, Rows k, Rows v) {
  const uint32_t row = blockIdx.x / cache.kv_heads, head = blockIdx.x % cache.kv_heads;
  const int32_t slot = step.slot(row);
  if (slot < 0) return;
  const uint32_t window_row = cache.window_row(step.position(row));
  uint8_t* const record = cache.window_of(slot, layer, head) + window_row * cache.record_bytes();
  const size_t from = static_cast<size_t>(head) * cache.head_dim + threadIdx.x;
  narrow(record, cache.kv_dtype, threadIdx.x, k.row(row)[from]);
  narrow(record, cache.kv_dtype, cache.head_dim + threadIdx.x, v.row(row)[from]);
}

}  // namespace

void append(Runtime& runtime, const AppendParams& params) {
  const Cache& cache = *params.cache;
  launch(runtime, "append", append_kernel, {dim3(params.step.row_count * cache.kv_heads), dim3(cache.head_dim)}, cache,
         params.layer, params.step, params.k, params.v);
}

}  // namespace pkv::cuda
