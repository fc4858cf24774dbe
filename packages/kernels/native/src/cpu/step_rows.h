// What the stages ask about a row of a step. For drivers only (see cpu.h).
#pragma once
#include <algorithm>

#include "core/operators.h"

namespace pkv::cpu {

// The ladder of a row (PKV_MODE_*), or -1 where the row is skipped.
inline int32_t row_mode(const Cache& cache, uint32_t layer, const Step& step, size_t row) {
  const int32_t slot = step.slot(row);
  return slot < 0 ? -1 : cache.budget_of(static_cast<size_t>(slot), layer)[PKV_BUDGET_MODE];
}

// Tokens of a slot's retrieval zone, kept within what the plan's workspaces hold.
inline uint32_t plan_zone_tokens(const Plan& plan, int32_t slot) {
  return std::min(static_cast<uint32_t>(std::max(plan.cache->zone_tokens[slot], 0)), plan.max_zone_tokens);
}

}  // namespace pkv::cpu
