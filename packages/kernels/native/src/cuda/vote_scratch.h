// What the stages from collide to rerank tell each other beside the workspaces of a plan, in Plan::scratch behind attend's
// part.
//
// The tokens of a row and KV head, and later its candidates, are cut into spans, a block each. Collide counts the scores of a
// span and leaves for every bin how many of its span reach it. So select needs no pass of its own to find the cut, and each of
// its blocks knows how many of the spans before it are taken: its place in the output. So it is with the first bits of
// priorities, if K is large; else rerank leaves the largest priorities of every span in a list (rerank_choose.cuh). Nothing
// is added up across blocks, so nothing has to be cleared and nothing depends on an order.
#pragma once
#include "core/operators.h"

namespace pkv::cuda {

constexpr uint32_t kCountBins = 2048;

// sum * exp(largest) is the sum of the exponentials of some logits; largest is -infinity without any.
struct LogSum { float largest, sum; };

struct VoteScratch {
  uint32_t* score_counts;     // [spans, kCountBins]: scores of at least the bin; spans of one row and KV head after another
  uint32_t* counted_spans;    // [max_rows, kv_heads]: spans that the last collide counted, 0 before the first one
  LogSum* log_sums;           // [max_rows, kv_heads, rotated_queries, most_tiles]: the logits of a tile of candidates
  uint32_t most_tiles;
  bool chooses_at_once;       // whether the kernel that makes the priorities chooses the top K
  uint32_t* priority_counts;  // [spans, kCountBins]: ordered keys of priorities, as score_counts; null if chooses_at_once
  // Lists of the largest priorities. If chooses_at_once one a span, the lists of a row and KV head side by side from the place
  // of its first span on; they may use fewer slots than there are. Else one a row and KV head.
  uint32_t* list_keys;        // [lists, list_slots]: ordered keys, 0 in slots that are left over
  uint32_t* list_tokens;      // [lists, list_slots]: their tokens in the zone, ascending
  uint32_t list_slots;        // a multiple of 4
  uint32_t* choice_arrivals;  // [max_rows, kv_heads]: blocks that have listed theirs; zero between launches
  size_t end_bytes;           // of the plan's scratch, attend's part included

  explicit VoteScratch(const Plan&);

  // Candidates of a tile. It depends on the model alone, so that no sum changes with the batch.
  PKV_HOST_DEVICE static constexpr uint32_t tile_candidates(uint32_t head_dim) { return (1 << 15) / head_dim; }
};

// Spans of each row and KV head in a step of `row_count` rows.
uint32_t score_spans(const Plan& plan, uint32_t row_count);
uint32_t priority_spans(const Plan& plan, uint32_t row_count);

}  // namespace pkv::cuda
