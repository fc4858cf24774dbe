// Where the records of a sequence lie: sink, pages of the retrieval zone, then up to two pieces of the ring.
// For drivers only: inline functions and templates do not belong in the `_avx2` and `_avx512` files (see cpu.h).
#pragma once
#include <algorithm>

#include "core/operators.h"

namespace pkv::cpu {

// `tokens` records side by side, [tokens, 2, head_dim] kv_dtype, of the positions from `first_position` on.
struct KvSpan {
  const uint8_t* records;
  int64_t first_position;
  uint32_t tokens;
};

// Calls visit(const KvSpan&) for the positions [begin, end) of one slot, layer and KV head, in position order.
// The caller keeps 0 <= begin <= end <= last position + 1; positions after the zone must still be in the ring.
template <class Visit>
void for_each_kv_span(const Cache& cache, uint32_t slot, uint32_t layer, uint32_t head, int64_t begin, int64_t end,
                      Visit&& visit) {
  const size_t record_bytes = cache.record_bytes();
  const int64_t zone_begin = cache.sink_tokens;
  const int64_t zone_end = zone_begin + cache.zone_tokens[slot];
  int64_t at = begin;
  const auto emit = [&](const uint8_t* records, int64_t tokens) {
    visit(KvSpan{records, at, static_cast<uint32_t>(tokens)});
    at += tokens;
  };
  if (at < end && at < zone_begin) {
    const uint8_t* window = cache.window_of(slot, layer, head);
    emit(window + static_cast<size_t>(at) * record_bytes, std::min(end, zone_begin) - at);
  }
  while (at < end && at < zone_end) {
    const int64_t token = at - zone_begin;
    const int64_t row = token % PKV_PAGE_TOKENS;
    const uint32_t page = cache.page_table[size_t{slot} * cache.max_pages + token / PKV_PAGE_TOKENS];
    emit(cache.records_of(page, layer, head) + static_cast<size_t>(row) * record_bytes,
         std::min<int64_t>({end - at, zone_end - at, PKV_PAGE_TOKENS - row}));
  }
  while (at < end) {
    const uint32_t row = cache.window_row(at);
    const int64_t before_wrap = static_cast<int64_t>(cache.window_tokens()) - row;
    emit(cache.window_of(slot, layer, head) + row * record_bytes, std::min(end - at, before_wrap));
  }
}

// The record of zone token `token` (counted from the first token after the sink).
inline const uint8_t* zone_record(const Cache& cache, uint32_t slot, uint32_t layer, uint32_t head, uint32_t token) {
  const uint32_t page = cache.page_table[size_t{slot} * cache.max_pages + token / PKV_PAGE_TOKENS];
  return cache.records_of(page, layer, head) + size_t{token % PKV_PAGE_TOKENS} * cache.record_bytes();
}

}  // namespace pkv::cpu
