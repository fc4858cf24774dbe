// How attend uses Plan::scratch; behind it lies vote_scratch.h.
#pragma once
#include "core/operators.h"

namespace pkv::cuda {

// attend: one partial softmax for every (row, KV head, piece). The pieces of a row depend on its own length and budget, and on
// the model, alone: a row's result does not change with the batch around it.
struct AttendScratch {
  static constexpr uint32_t least_piece_tokens = 128;
  uint32_t most_pieces;   // of any row
  uint32_t piece_floats;  // [query_group, head_dim] output, [query_group] maximum, [query_group] sum; a multiple of 4
  uint32_t* arrivals;     // [max_rows, kv_heads]: blocks that are done; zero between launches
  uint32_t* places;       // [max_rows, kv_heads, max_top_k]: HotPlace; null without a hot set
  float* partials;        // [max_rows, kv_heads, most_pieces, piece_floats]
  size_t bytes;

  explicit AttendScratch(const Plan&);

  // Pieces of a row that attends to at most `tokens` tokens: one at least.
  PKV_HOST_DEVICE uint32_t pieces(uint32_t tokens) const {
    const uint32_t units = (tokens + least_piece_tokens - 1) / least_piece_tokens;
    if (units <= most_pieces) return units > 0 ? units : 1;  // nearly always, and it spares divisions
    const uint32_t piece_units = (units + most_pieces - 1) / most_pieces;
    return (units + piece_units - 1) / piece_units;
  }
};

}  // namespace pkv::cuda
