// How the stages share Plan::scratch. Stages run one after another, so each begins at its first byte.
#pragma once
#include "core/operators.h"

namespace pkv::cpu {

constexpr size_t kScratchAlignmentBytes = 64;

inline size_t align_scratch(size_t bytes) {
  return (bytes + kScratchAlignmentBytes - 1) / kScratchAlignmentBytes * kScratchAlignmentBytes;
}

// attend: one partial softmax for every (row, KV head, piece); attend_pieces.h has the pieces.
struct AttendScratch {
  // Most tokens that a row attends to, and most pieces of any row.
  static size_t max_tokens(const Plan&);
  static size_t max_pieces(const Plan&);
  // [query_group, head_dim] output, [query_group] maximum, [query_group] sum; f32, padded to whole lines.
  static size_t partial_floats(const Cache&);
  static size_t bytes(const Plan&);
};

// rerank: what the choice among the candidates of one KV head needs, once for every thread.
struct RerankScratch {
  static constexpr size_t bins = 2048;
  static_assert(PKV_SCORE_BINS <= bins, "a histogram of scores fits");

  static size_t thread_bytes(const Plan&);
  static size_t bytes(const Plan&, unsigned threads);
  RerankScratch(const Plan&, unsigned thread);

  float* values;            // [max_candidates]: exponentials of one query's estimates, then priorities to be ranked
  float* candidate_scores;  // [max_candidates]: after that, and in the same place, their collision scores
  uint32_t* places;         // [max_candidates]: those that may be among the top
  uint32_t* chosen;         // [max_top_k]: places of the selected keys among the candidates
  float* chosen_estimates;  // [max_top_k]: their estimates for one query
  uint32_t* histogram;      // [4, bins]: four partial counts, so that equal neighbours do not wait for each other
};

}  // namespace pkv::cpu
