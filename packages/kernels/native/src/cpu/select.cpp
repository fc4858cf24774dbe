// select: the candidates of every KV head, by histogram and never by sorting (algorithm.md §3). Reads the scores twice, two
// bytes a key. Ties go to the smaller index and the output ascends.
#include <algorithm>
#include <cstring>

#include "cpu/cpu.h"
#include "cpu/invalid_key.h"
#include "cpu/plan_scratch.h"
#include "cpu/step_rows.h"

namespace pkv::cpu {
namespace {

// Four partial histograms, so that runs of equal scores do not wait for each other's increments.
constexpr size_t kPartials = 4;
constexpr size_t kBins = RerankScratch::bins;
// Scores stop at PKV_SCORE_BINS - 1; PKV_NO_SCORE is clamped into the last bin, which nobody reads.
static_assert(PKV_SCORE_BINS < kBins, "there is a bin to spare");

void count_scores(const uint16_t* scores, uint32_t tokens, uint32_t* histogram) {
  std::memset(histogram, 0, kPartials * kBins * sizeof(uint32_t));
  const auto count = [&](size_t partial, uint32_t token) {
    ++histogram[partial * kBins + std::min<uint32_t>(scores[token], kBins - 1)];
  };
  uint32_t token = 0;
  for (; token + kPartials <= tokens; token += kPartials) {
    for (size_t partial = 0; partial < kPartials; ++partial) count(partial, token + static_cast<uint32_t>(partial));
  }
  for (; token < tokens; ++token) count(0, token);
  for (size_t partial = 1; partial < kPartials; ++partial) {
    for (size_t bin = 0; bin < kBins; ++bin) histogram[bin] += histogram[partial * kBins + bin];
  }
}

// Every key above `score` is a candidate, and the first `quota` keys that equal it.
struct Threshold {
  uint32_t score, quota;
};

Threshold find_threshold(const uint32_t* histogram, uint32_t wanted) {
  Threshold threshold{PKV_SCORE_BINS, 0};
  while (wanted > 0 && threshold.score > 0) {
    --threshold.score;
    threshold.quota = std::min(wanted, histogram[threshold.score]);
    wanted -= threshold.quota;
  }
  return threshold;
}

int32_t collect(const uint16_t* scores, uint32_t tokens, Threshold threshold, uint32_t* candidates) {
  // One unsigned comparison for threshold <= score < PKV_SCORE_BINS.
  const uint16_t lowest = static_cast<uint16_t>(threshold.score);
  const uint16_t range = static_cast<uint16_t>(PKV_SCORE_BINS - threshold.score);
  if (range == 0) return 0;
  constexpr uint32_t kBlock = 32;
  uint32_t found = 0;
  for (uint32_t block = 0; block < tokens; block += kBlock) {
    const uint32_t end = std::min(block + kBlock, tokens);
    if (end - block == kBlock) {  // most blocks hold no candidate, and the compiler makes a few vector steps of this
      uint16_t any = 0;
      for (uint32_t i = 0; i < kBlock; ++i) any |= static_cast<uint16_t>(scores[block + i] - lowest) < range ? 1 : 0;
      if (any == 0) continue;
    }
    for (uint32_t token = block; token < end; ++token) {
      if (static_cast<uint16_t>(scores[token] - lowest) >= range) continue;
      if (scores[token] == lowest) {
        if (threshold.quota == 0) continue;
        --threshold.quota;
      }
      candidates[found++] = token;
    }
  }
  return static_cast<int32_t>(found);
}

// Mode scan: the first `wanted` valid keys.
int32_t list_valid_keys(const Cache& cache, size_t slot, size_t layer, size_t head, uint32_t tokens, uint32_t wanted,
                        uint32_t* candidates) {
  const bool all_valid = cache.invalid_keys[(slot * cache.layers + layer) * cache.kv_heads + head] == 0;
  const size_t code_bytes = cache.head_dim / 2;
  const uint8_t* codes = nullptr;
  uint32_t found = 0;
  for (uint32_t token = 0; token < tokens && found < wanted; ++token) {
    if (!all_valid) {
      const uint32_t row = token % PKV_PAGE_TOKENS;
      if (row == 0) {
        const uint32_t page_id = cache.page_table[slot * cache.max_pages + token / PKV_PAGE_TOKENS];
        codes = cache.codes_of(cache.summary_of(page_id, layer, head));
      }
      if (is_invalid_key(codes + row * code_bytes, code_bytes)) continue;
    }
    candidates[found++] = token;
  }
  return static_cast<int32_t>(found);
}

}  // namespace

void select(Runtime& runtime, const StageParams& params) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  parallel_for(runtime.pool, size_t{params.step.row_count} * cache.kv_heads, [&](size_t index, unsigned thread) {
    const size_t row = index / cache.kv_heads, head = index % cache.kv_heads;
    const int32_t mode = row_mode(cache, params.layer, params.step, row);
    if (mode != PKV_MODE_VOTE && mode != PKV_MODE_SCAN) return;
    const int32_t slot = params.step.slot(row);
    const uint32_t tokens = plan_zone_tokens(plan, slot);
    uint32_t* const candidates = plan.candidates + index * plan.max_candidates;
    if (mode == PKV_MODE_SCAN) {
      plan.candidate_count[index] =
          list_valid_keys(cache, slot, params.layer, head, tokens, plan.max_candidates, candidates);
      return;
    }
    const int32_t budget = cache.budget_of(slot, params.layer)[PKV_BUDGET_CANDIDATES];
    const uint32_t wanted = std::min(static_cast<uint32_t>(std::max(budget, 0)), plan.max_candidates);
    const uint16_t* const scores = plan.scores + index * plan.max_zone_tokens;
    uint32_t* const histogram = RerankScratch(plan, thread).histogram;
    count_scores(scores, tokens, histogram);
    plan.candidate_count[index] = collect(scores, tokens, find_threshold(histogram, wanted), candidates);
  });
}

}  // namespace pkv::cpu
