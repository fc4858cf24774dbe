#include "cpu/plan_scratch.h"

#include <algorithm>

#include "cpu/attend_pieces.h"
#include "cpu/cpu.h"

namespace pkv::cpu {

size_t AttendScratch::max_tokens(const Plan& plan) {
  return size_t{plan.cache->sink_tokens} + plan.cache->ring_tokens + std::max(plan.max_zone_tokens, plan.max_top_k);
}

// A shorter row may have more pieces than the longest one; each has a page at least.
size_t AttendScratch::max_pieces(const Plan& plan) {
  return std::min((max_tokens(plan) + PKV_PAGE_TOKENS - 1) / PKV_PAGE_TOKENS, AttendPieces::most);
}

size_t AttendScratch::partial_floats(const Cache& cache) {
  return align_scratch(size_t{cache.query_group} * (cache.head_dim + 2) * sizeof(float)) / sizeof(float);
}

size_t AttendScratch::bytes(const Plan& plan) {
  return size_t{plan.max_rows} * plan.cache->kv_heads * max_pieces(plan) * partial_floats(*plan.cache) * sizeof(float);
}

size_t RerankScratch::thread_bytes(const Plan& plan) {
  return 2 * align_scratch(size_t{plan.max_candidates} * 4) + 2 * align_scratch(size_t{plan.max_top_k} * 4) +
         4 * bins * sizeof(uint32_t);
}

size_t RerankScratch::bytes(const Plan& plan, unsigned threads) {
  return threads * thread_bytes(plan);
}

RerankScratch::RerankScratch(const Plan& plan, unsigned thread) {
  uint8_t* at = plan.scratch + thread * thread_bytes(plan);
  const auto take = [&](size_t elements) {
    uint8_t* from = at;
    at += align_scratch(elements * 4);
    return from;
  };
  values = candidate_scores = reinterpret_cast<float*>(take(plan.max_candidates));
  places = reinterpret_cast<uint32_t*>(take(plan.max_candidates));
  chosen = reinterpret_cast<uint32_t*>(take(plan.max_top_k));
  chosen_estimates = reinterpret_cast<float*>(take(plan.max_top_k));
  histogram = reinterpret_cast<uint32_t*>(take(4 * bins));
}

size_t plan_scratch_bytes(const Plan& plan, unsigned threads) {
  return std::max(AttendScratch::bytes(plan), RerankScratch::bytes(plan, threads));
}

}  // namespace pkv::cpu
