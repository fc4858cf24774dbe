// offload: the records of a page's 512 tokens from the ring to their final place, all layers and KV heads.
// Costs each record once read and once written; to mapped memory the bus decides. Beside other work it takes few blocks: as
// many as fill the bus. More of them would hold up the memory accesses of everyone while their writes wait for it.
#include <algorithm>

#include "cuda/alignment.h"
#include "cuda/launch.h"
#include "cuda/memory.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kPiecesAHead = tuning::offload_pieces_per_head;
constexpr uint32_t kPieceTokens = PKV_PAGE_TOKENS / kPiecesAHead;
constexpr uint32_t kThreads = tuning::offload_threads;
constexpr uint32_t kAtOnce = 8;             // loads of a thread in flight
constexpr uint32_t kLeastRecordParts = 16;  // of 16 bytes: two halves of 64 elements of 16 bits
static_assert(PKV_PAGE_TOKENS % kPiecesAHead == 0, "no ragged tails");
static_assert(kPieceTokens * kLeastRecordParts % (kThreads * kAtOnce) == 0, "no ragged tails; larger records are multiples");

// `first`: row of the ring that holds the page's first token. Blocks share the pieces of all layers and KV heads.
__global__ void __launch_bounds__(kThreads)
    offload_kernel(Cache cache, uint32_t slot, uint32_t page_id, uint32_t first) {
  const uint32_t record_parts = static_cast<uint32_t>(cache.record_bytes() / sizeof(uint4));
  for (uint32_t piece = blockIdx.x; piece < cache.layers * cache.kv_heads * kPiecesAHead; piece += gridDim.x) {
    const uint32_t layer_head = piece / kPiecesAHead, begin = piece % kPiecesAHead * kPieceTokens;
    const uint32_t layer = layer_head / cache.kv_heads, head = layer_head % cache.kv_heads;
    const uint4* const ring = reinterpret_cast<const uint4*>(cache.window_of(slot, layer, head)) +
                              static_cast<size_t>(cache.sink_tokens) * record_parts;
    uint4* const records = reinterpret_cast<uint4*>(cache.records_of(page_id, layer, head));
    const auto row_of = [&](uint32_t token) {
      return first + token < cache.ring_tokens ? first + token : first + token - cache.ring_tokens;
    };
    for (uint32_t i = threadIdx.x; i < kPieceTokens * record_parts; i += kThreads * kAtOnce) {
      uint4 held[kAtOnce];
#pragma unroll
      for (uint32_t k = 0; k < kAtOnce; ++k) {
        const uint32_t token = begin + (i + k * kThreads) / record_parts, part = (i + k * kThreads) % record_parts;
        held[k] = load_once(ring + static_cast<size_t>(row_of(token)) * record_parts + part);
      }
#pragma unroll
      for (uint32_t k = 0; k < kAtOnce; ++k) {
        records[static_cast<size_t>(begin) * record_parts + i + k * kThreads] = held[k];
      }
    }
  }
}

}  // namespace

void offload(Runtime& runtime, const PageParams& params, bool beside) {
  const Cache& cache = *params.cache;
  require_vectors(cache);
  const uint32_t first = static_cast<uint32_t>(uint64_t{params.page_index} * PKV_PAGE_TOKENS % cache.ring_tokens);
  const uint32_t pieces = cache.layers * cache.kv_heads * kPiecesAHead;
  const uint32_t blocks = std::min(pieces, beside ? tuning::offload_blocks_beside : (runtime.multiprocessors + 1) / 2);
  launch(runtime, "offload", offload_kernel, {dim3(blocks), dim3(kThreads)}, cache, params.slot,
         params.page_id, first);
}

}  // namespace pkv::cuda
