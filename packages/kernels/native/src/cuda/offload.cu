// offload: the records of a page's 512 tokens from the ring to their final place, all layers and KV heads.
// Costs each record once read and once written; to mapped memory the bus decides.
#include "cuda/alignment.h"
#include "cuda/launch.h"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kBlocksAHead = tuning::offload_blocks_per_head;
static_assert(PKV_PAGE_TOKENS % kBlocksAHead == 0, "no ragged tails");

// `first`: row of the ring that holds the page's first token. A block moves 512 / kBlocksAHead records.
__global__ void __launch_bounds__(tuning::offload_threads)
    offload_kernel(Cache cache, uint32_t slot, uint32_t page_id, uint32_t first) {
  const uint32_t layer_head = blockIdx.x / kBlocksAHead;
  const uint32_t layer = layer_head / cache.kv_heads, head = layer_head % cache.kv_heads;
  const uint32_t record_parts = static_cast<uint32_t>(cache.record_bytes() / sizeof(uint4));
  const uint4* const ring = reinterpret_cast<const uint4*>(cache.window_of(slot, layer, head)) +
                            static_cast<size_t>(cache.sink_tokens) * record_parts;
  uint4* const records = reinterpret_cast<uint4*>(cache.records_of(page_id, layer, head));
  constexpr uint32_t kTokens = PKV_PAGE_TOKENS / kBlocksAHead;
  const uint32_t begin = blockIdx.x % kBlocksAHead * kTokens;
#pragma unroll 4
  for (uint32_t i = threadIdx.x; i < kTokens * record_parts; i += blockDim.x) {
    const uint32_t token = begin + i / record_parts, part = i % record_parts;
    const uint32_t row = first + token < cache.ring_tokens ? first + token : first + token - cache.ring_tokens;
    records[static_cast<size_t>(token) * record_parts + part] = ring[static_cast<size_t>(row) * record_parts + part];
  }
}

}  // namespace

void offload(Runtime& runtime, const PageParams& params) {
  const Cache& cache = *params.cache;
  require_vectors(cache);
  const uint32_t first = static_cast<uint32_t>(uint64_t{params.page_index} * PKV_PAGE_TOKENS % cache.ring_tokens);
  launch(runtime, "offload", offload_kernel,
         {dim3(cache.layers * cache.kv_heads * kBlocksAHead), dim3(tuning::offload_threads)}, cache, params.slot,
         params.page_id, first);
}

}  // namespace pkv::cuda
