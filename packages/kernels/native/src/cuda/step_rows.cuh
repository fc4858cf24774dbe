// What the kernels ask about a row of a step.
#pragma once
#include "core/operators.h"

namespace pkv::cuda {

// The ladder of a row (PKV_MODE_*), or -1 where the row is skipped.
__device__ inline int32_t row_mode(const Cache& cache, uint32_t layer, const Step& step, uint32_t row) {
  const int32_t slot = step.slot(row);
  return slot < 0 ? -1 : cache.budget_of(static_cast<size_t>(slot), layer)[PKV_BUDGET_MODE];
}

// Tokens of a slot's retrieval zone, kept within what the plan's workspaces hold.
__device__ inline uint32_t plan_zone_tokens(const Cache& cache, const Plan& plan, int32_t slot) {
  return min(static_cast<uint32_t>(max(cache.zone_tokens[slot], 0)), plan.max_zone_tokens);
}

// Index of a (slot, layer, KV head) in tables of that shape.
__device__ inline size_t head_entry(const Cache& cache, int32_t slot, uint32_t layer, uint32_t head) {
  return (static_cast<size_t>(slot) * cache.layers + layer) * cache.kv_heads + head;
}

// The page of zone token `token`.
__device__ inline uint32_t page_of(const Cache& cache, int32_t slot, uint32_t token) {
  return cache.page_table[static_cast<size_t>(slot) * cache.max_pages + token / PKV_PAGE_TOKENS];
}

// A key of zero or non-finite norm: all its codes, [code_bytes], are zero. code_bytes is a multiple of 16.
__device__ inline bool is_invalid_key(const uint8_t* codes, uint32_t code_bytes) {
  uint32_t any = 0;
  for (uint32_t at = 0; at < code_bytes; at += sizeof(uint4)) {
    const uint4 part = *reinterpret_cast<const uint4*>(codes + at);
    any |= part.x | part.y | part.z | part.w;
  }
  return any == 0;
}

}  // namespace pkv::cuda
