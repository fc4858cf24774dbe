// What the versions of attend that work in blocks share. Internal to each file that includes it: see cpu.h.
#pragma once
#include "cpu/attend_kernels.h"

namespace pkv::cpu {
namespace {

// Tokens of one block: their logits are computed, then one maximum and one rescale serve all of them.
constexpr uint32_t kBlockTokens = 64;

struct Block {
  const uint8_t* records;  // [tokens, 2, head_dim] kv_dtype
  const uint8_t* next;     // the records after them, to be prefetched
  uint32_t tokens;         // 1..kBlockTokens
};

// Calls attend(const Block&) for the blocks of all spans, in their order.
template <class Attend>
inline void for_each_block(const AttendCall& call, size_t record_bytes, const Attend& attend) {
  for (uint32_t i = 0; i < call.span_count; i++) {
    const AttendSpan& span = call.spans[i];
    for (uint32_t begin = 0; begin < span.tokens; begin += kBlockTokens) {
      const uint8_t* records = span.records + begin * record_bytes;
      const uint32_t left = span.tokens - begin;
      if (left > kBlockTokens) {
        attend(Block{records, records + kBlockTokens * record_bytes, kBlockTokens});
      } else {
        const uint8_t* following = call.following != nullptr ? call.following : records;
        attend(Block{records, i + 1 < call.span_count ? call.spans[i + 1].records : following, left});
      }
    }
  }
}

}  // namespace
}  // namespace pkv::cpu
