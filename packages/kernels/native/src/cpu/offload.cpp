// offload: the records of a page's 512 tokens from the ring to their final place.
#include <algorithm>
#include <cstring>

#include "cpu/cpu.h"

namespace pkv::cpu {

void offload(Runtime& runtime, const PageParams& params) {
  const Cache& cache = *params.cache;
  const size_t record_bytes = cache.record_bytes();
  const uint32_t first = static_cast<uint32_t>(uint64_t{params.page_index} * PKV_PAGE_TOKENS % cache.ring_tokens);
  const uint32_t before_wrap = std::min<uint32_t>(PKV_PAGE_TOKENS, cache.ring_tokens - first);
  parallel_for(runtime.pool, size_t{cache.layers} * cache.kv_heads, [&](size_t index, unsigned) {
    const size_t layer = index / cache.kv_heads, head = index % cache.kv_heads;
    const uint8_t* const ring =
        cache.window_of(params.slot, layer, head) + size_t{cache.sink_tokens} * record_bytes;
    uint8_t* const records = cache.records_of(params.page_id, layer, head);
    std::memcpy(records, ring + first * record_bytes, before_wrap * record_bytes);
    std::memcpy(records + before_wrap * record_bytes, ring, (PKV_PAGE_TOKENS - before_wrap) * record_bytes);
  });
}

}  // namespace pkv::cpu
