// What the kernels ask about a row of a step.
#pragma once
#include "core/operators.h"
#include "cuda/memory.cuh"

namespace pkv::cuda {

// Whether a row in this mode has candidates.
__device__ inline bool is_searched(int32_t mode) { return mode == PKV_MODE_VOTE || mode == PKV_MODE_SCAN; }

// What stages ask about a row. They are short, and much of their time is waiting for one answer after the other: so all that
// follows from the slot is asked for at once, and before it is known whether the row is skipped.
struct StepRow {
  int32_t slot;
  int32_t mode;          // PKV_MODE_*, or -1 where the row is skipped
  uint32_t candidates;   // of the budget, and of what the plan's workspaces hold, as all that follow
  uint32_t top_k;
  uint32_t zone_tokens;  // of the slot's retrieval zone

  __device__ StepRow(const Cache& cache, const Plan& plan, uint32_t layer, const Step& step, uint32_t row)
      : slot(load_early(step.table + size_t{row} * PKV_ROW_FIELDS + PKV_ROW_SLOT)) {
    const size_t any_slot = static_cast<size_t>(max(slot, 0));
    const int32_t* const budget = cache.budget_of(any_slot, layer);
    const int32_t of_mode = load_early(budget + PKV_BUDGET_MODE), of_candidates = load_early(budget + PKV_BUDGET_CANDIDATES),
                  of_top_k = load_early(budget + PKV_BUDGET_TOP_K), of_zone = load_early(cache.zone_tokens + any_slot);
    mode = slot < 0 ? -1 : of_mode;
    candidates = min(static_cast<uint32_t>(max(of_candidates, 0)), plan.max_candidates);
    top_k = min(static_cast<uint32_t>(max(of_top_k, 0)), plan.max_top_k);
    zone_tokens = min(static_cast<uint32_t>(max(of_zone, 0)), plan.max_zone_tokens);
  }

  __device__ bool is_searched() const { return pkv::cuda::is_searched(mode); }
};

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
