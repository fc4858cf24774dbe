// commit: makes an encoded page retrievable. Counts its ids and its invalid keys, then moves the end of the zone.
#include "cpu/cpu.h"
#include "cpu/invalid_key.h"

namespace pkv::cpu {

void commit(Runtime& runtime, const PageParams& params) {
  const Cache& cache = *params.cache;
  const size_t code_bytes = cache.head_dim / 2;
  const uint32_t subspaces = cache.subspaces();
  parallel_for(runtime.pool, size_t{cache.layers} * cache.kv_heads, [&](size_t index, unsigned) {
    const size_t layer = index / cache.kv_heads, head = index % cache.kv_heads;
    const size_t entry = (size_t{params.slot} * cache.layers + layer) * cache.kv_heads + head;
    uint8_t* const ids = cache.summary_of(params.page_id, layer, head);  // [subspaces, 512]
    const uint8_t* const codes = cache.codes_of(ids);
    bool valid[PKV_PAGE_TOKENS];
    uint32_t invalid_keys = 0;
    for (uint32_t token = 0; token < PKV_PAGE_TOKENS; ++token) {
      valid[token] = !is_invalid_key(codes + token * code_bytes, code_bytes);
      invalid_keys += valid[token] ? 0 : 1;
    }
    cache.invalid_keys[entry] += invalid_keys;
    if (cache.id_counts == nullptr) return;
    for (uint32_t subspace = 0; subspace < subspaces; ++subspace) {
      uint32_t* const counts = cache.id_counts + (entry * subspaces + subspace) * PKV_CENTROIDS;
      const uint8_t* const plane = ids + size_t{subspace} * PKV_PAGE_TOKENS;
      for (uint32_t token = 0; token < PKV_PAGE_TOKENS; ++token) counts[plane[token]] += valid[token] ? 1 : 0;
    }
  });
  cache.zone_tokens[params.slot] = static_cast<int32_t>((params.page_index + 1) * PKV_PAGE_TOKENS);
}

}  // namespace pkv::cpu
