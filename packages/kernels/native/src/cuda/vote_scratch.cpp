#include "cuda/vote_scratch.h"

#include <algorithm>

#include "cuda/plan_scratch.h"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

size_t divide_up(size_t count, size_t by) { return (count + by - 1) / by; }

// Spans of each of `heads` heads.
uint32_t spans_a_head(size_t heads) { return static_cast<uint32_t>(std::max<size_t>(tuning::span_blocks / heads, 1)); }

// Of all heads together, in any step of up to `heads` of them.
size_t most_spans(size_t heads) { return std::max<size_t>(tuning::span_blocks, heads); }

}  // namespace

uint32_t score_spans(const Plan& plan, uint32_t row_count) {
  const size_t pages = divide_up(plan.max_zone_tokens, PKV_PAGE_TOKENS);
  return static_cast<uint32_t>(std::min<size_t>(spans_a_head(size_t{row_count} * plan.cache->kv_heads), pages));
}

uint32_t priority_spans(const Plan& plan, uint32_t row_count) {
  const size_t units = divide_up(plan.max_candidates, tuning::span_candidates);
  return static_cast<uint32_t>(std::min<size_t>(spans_a_head(size_t{row_count} * plan.cache->kv_heads), units));
}

VoteScratch::VoteScratch(const Plan& plan) {
  constexpr size_t kAlignBytes = 64;
  uint8_t* const base = plan.scratch;
  size_t at = divide_up(AttendScratch(plan).bytes, kAlignBytes) * kAlignBytes;
  const auto take = [&](size_t bytes) {
    const size_t from = at;
    at += divide_up(bytes, kAlignBytes) * kAlignBytes;
    return base + from;
  };
  const size_t heads = size_t{plan.max_rows} * plan.cache->kv_heads;
  const size_t counts_bytes = most_spans(heads) * kCountBins * sizeof(uint32_t);
  score_counts = reinterpret_cast<uint32_t*>(take(counts_bytes));
  priority_counts = reinterpret_cast<uint32_t*>(take(counts_bytes));
  counted_spans = reinterpret_cast<uint32_t*>(take(heads * sizeof(uint32_t)));
  most_tiles = static_cast<uint32_t>(divide_up(plan.max_candidates, tile_candidates(plan.cache->head_dim)));
  log_sums = reinterpret_cast<LogSum*>(take(heads * plan.rotated_queries * most_tiles * sizeof(LogSum)));
  listed = reinterpret_cast<ListedCandidate*>(take(heads * most_listed * sizeof(ListedCandidate)));
  choice_arrivals = reinterpret_cast<uint32_t*>(take(heads * sizeof(uint32_t)));
  end_bytes = at;
}

}  // namespace pkv::cuda
