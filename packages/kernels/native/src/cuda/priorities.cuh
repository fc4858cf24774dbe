// Priorities of candidates, and sums of exponentials on the way to them (docs/mathematics.md §4).
#pragma once
#include <cmath>

#include "cuda/memory.cuh"
#include "cuda/softmax.cuh"
#include "cuda/vote_scratch.h"

namespace pkv::cuda {

// Candidates of a row and KV head; anything the workspaces hold where the row is not searched.
__device__ inline uint32_t candidates_of(const Plan& plan, uint32_t row_head) {
  return min(static_cast<uint32_t>(max(load_early(plan.candidate_count + row_head), 0)), plan.max_candidates);
}

// What is not finite comes last.
__device__ inline float finite_priority(float priority) { return isfinite(priority) ? priority : -INFINITY; }

// A digit of the ordered key of a priority. The first one is its bin among the counts of a span.
constexpr uint32_t kDigitBits = 11, kTopShift = 32 - kDigitBits;
static_assert(kCountBins == 1u << kDigitBits, "a bin a digit");

__device__ inline uint32_t priority_bin(uint32_t key) { return key >> kTopShift; }

__device__ inline LogSum joined(const LogSum& a, const LogSum& b) {
  const float largest = fmaxf(a.largest, b.largest);
  return {largest, a.sum * share_of_largest(a.largest, largest) + b.sum * share_of_largest(b.largest, largest)};
}

}  // namespace pkv::cuda
