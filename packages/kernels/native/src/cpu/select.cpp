// select: the candidates of every KV head, by histogram and never by sorting (docs/mathematics.md §3). Reads the scores twice, two
// bytes a key, and a sample of them before. Ties go to the smaller index and the output ascends.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/cpu.h"
#include "cpu/invalid_key.h"
#include "cpu/plan_scratch.h"
#include "cpu/select_kernels.h"
#include "cpu/step_rows.h"

namespace pkv::cpu {
namespace {

static_assert(kSelectBins <= RerankScratch::bins && kSelectPartials == 4, "the histogram lies in rerank's scratch");

const SelectKernels& kernels_of(Isa isa) {
#if defined(__x86_64__) || defined(_M_X64)
  if (isa >= Isa::avx512) return select_avx512;
  if (isa >= Isa::avx2) return select_avx2;
#endif
  (void)isa;
  return select_portable;
}

// A score that probably some more than `wanted` keys reach, from about 2048 of them: whoever counts only from there on
// increments a few bins instead of one a key. 0 where a sample would not pay.
uint32_t guess_lowest(const uint16_t* scores, uint32_t tokens, uint32_t wanted, uint32_t* histogram) {
  constexpr uint32_t kSamples = 2048;
  const uint32_t stride = tokens / kSamples | 1;  // odd: no period of a power of two hides anything
  if (stride < 4) return 0;
  std::memset(histogram, 0, kSelectBins * sizeof(uint32_t));
  for (uint32_t token = 0; token < tokens; token += stride) {
    if (scores[token] < PKV_SCORE_BINS) ++histogram[scores[token]];
  }
  const double expected = static_cast<double>(wanted) / stride;
  const uint32_t enough = static_cast<uint32_t>(expected + 3 * std::sqrt(expected)) + 8;  // three standard deviations
  uint32_t reached = 0;
  for (uint32_t score = PKV_SCORE_BINS; score-- > 0;) {
    reached += histogram[score];
    if (reached >= enough) return score;
  }
  return 0;
}

// Counts the scores from `lowest` on, into the first of the partial histograms.
void count_scores(const SelectKernels& kernels, const uint16_t* scores, uint32_t tokens, uint32_t lowest,
                  uint32_t* histogram) {
  std::memset(histogram, 0, kSelectPartials * kSelectBins * sizeof(uint32_t));
  kernels.count(scores, tokens, lowest, histogram);
  for (uint32_t partial = 1; partial < kSelectPartials; ++partial) {
    for (uint32_t bin = 0; bin < kSelectBins; ++bin) histogram[bin] += histogram[partial * kSelectBins + bin];
  }
}

SelectThreshold find_threshold(const uint32_t* histogram, uint32_t wanted) {
  SelectThreshold threshold{PKV_SCORE_BINS, 0, 0};
  while (threshold.count < wanted && threshold.score > 0) {
    --threshold.score;
    threshold.quota = std::min(wanted - threshold.count, histogram[threshold.score]);
    threshold.count += threshold.quota;
  }
  return threshold;
}

// Mode vote: the `wanted` keys of highest score, or all valid ones.
int32_t choose_by_score(const SelectKernels& kernels, const uint16_t* scores, uint32_t tokens, uint32_t wanted,
                        uint32_t* histogram, uint32_t* candidates) {
  if (wanted == 0 || tokens == 0) return 0;
  const uint32_t lowest = guess_lowest(scores, tokens, wanted, histogram);
  count_scores(kernels, scores, tokens, lowest, histogram);
  SelectThreshold threshold = find_threshold(histogram, wanted);
  if (threshold.count < wanted && lowest > 0) {  // the sample misled
    count_scores(kernels, scores, tokens, 0, histogram);
    threshold = find_threshold(histogram, wanted);
  }
  if (threshold.count > 0) kernels.collect(scores, tokens, threshold, candidates);
  return static_cast<int32_t>(threshold.count);
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
  const SelectKernels& kernels = kernels_of(runtime.isa);
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
    plan.candidate_count[index] = choose_by_score(kernels, scores, tokens, wanted,
                                                  RerankScratch(plan, thread).histogram, candidates);
  });
}

}  // namespace pkv::cpu
