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
  const size_t spans = most_spans(heads);
  score_counts = reinterpret_cast<uint32_t*>(take(spans * kCountBins * sizeof(uint32_t)));
  counted_spans = reinterpret_cast<uint32_t*>(take(heads * sizeof(uint32_t)));
  most_tiles = static_cast<uint32_t>(divide_up(plan.max_candidates, tile_candidates(plan.cache->head_dim)));
  log_sums = reinterpret_cast<LogSum*>(take(heads * plan.rotated_queries * most_tiles * sizeof(LogSum)));
  chooses_at_once = plan.max_top_k <= tuning::choose_at_once_keys;
  priority_counts =
      chooses_at_once ? nullptr : reinterpret_cast<uint32_t*>(take(spans * kCountBins * sizeof(uint32_t)));
  // A list of a span has room for what the last bin of the K-th largest holds beside, or its block has to look at more digits.
  const size_t most_listed = chooses_at_once ? std::max(plan.max_top_k + plan.max_top_k / 4, tuning::least_list_slots)
                                             : tuning::long_list_slots;
  list_slots = static_cast<uint32_t>(divide_up(std::min<size_t>(most_listed, plan.max_candidates), 4) * 4);
  const size_t lists = chooses_at_once ? spans : heads;
  list_keys = reinterpret_cast<uint32_t*>(take(lists * list_slots * sizeof(uint32_t)));
  list_tokens = reinterpret_cast<uint32_t*>(take(lists * list_slots * sizeof(uint32_t)));
  choice_arrivals = reinterpret_cast<uint32_t*>(take(heads * sizeof(uint32_t)));
  end_bytes = at;
}

}  // namespace pkv::cuda
