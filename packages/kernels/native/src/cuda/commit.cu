// commit: makes an encoded page retrievable. Counts its ids and its invalid keys, then moves the end of the zone.
// Costs head_dim / 2 + head_dim / 8 bytes a key. Exact: integers alone.
#include "cuda/launch.h"
#include "cuda/step_rows.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kThreads = tuning::commit_threads;
static_assert(kThreads == PKV_CENTROIDS, "one thread a centroid when the counts are added");

// One block a layer and KV head: no other block touches its counts.
__global__ void __launch_bounds__(kThreads)
    commit_kernel(Cache cache, uint32_t slot, uint32_t page_index, uint32_t page_id) {
  __shared__ bool valid[PKV_PAGE_TOKENS];
  __shared__ uint32_t histogram[PKV_CENTROIDS];
  const uint32_t layer = blockIdx.x / cache.kv_heads, head = blockIdx.x % cache.kv_heads;
  const size_t entry = head_entry(cache, static_cast<int32_t>(slot), layer, head);
  uint8_t* const ids = cache.summary_of(page_id, layer, head);
  const uint8_t* const codes = cache.codes_of(ids);
  const uint32_t code_bytes = cache.head_dim / 2;

  uint32_t invalid_keys = 0;
  for (uint32_t token = threadIdx.x; token < PKV_PAGE_TOKENS; token += kThreads) {
    valid[token] = !is_invalid_key(codes + static_cast<size_t>(token) * code_bytes, code_bytes);
    invalid_keys += __syncthreads_count(!valid[token]);
  }
  if (threadIdx.x == 0) {
    cache.invalid_keys[entry] += invalid_keys;
    if (blockIdx.x == 0) cache.zone_tokens[slot] = static_cast<int32_t>((page_index + 1) * PKV_PAGE_TOKENS);
  }
  if (cache.id_counts == nullptr) return;
  for (uint32_t subspace = 0; subspace < cache.subspaces(); ++subspace) {
    const uint8_t* const plane = ids + static_cast<size_t>(subspace) * PKV_PAGE_TOKENS;
    histogram[threadIdx.x] = 0;
    __syncthreads();
    for (uint32_t token = threadIdx.x; token < PKV_PAGE_TOKENS; token += kThreads) {
      if (valid[token]) atomicAdd(&histogram[plane[token]], 1u);
    }
    __syncthreads();
    cache.id_counts[(entry * cache.subspaces() + subspace) * PKV_CENTROIDS + threadIdx.x] += histogram[threadIdx.x];
  }
}

}  // namespace

void commit(Runtime& runtime, const PageParams& params) {
  const Cache& cache = *params.cache;
  launch(runtime, "commit", commit_kernel, {dim3(cache.layers * cache.kv_heads), dim3(kThreads)}, cache, params.slot,
         params.page_index, params.page_id);
}

}  // namespace pkv::cuda
