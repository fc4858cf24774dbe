#include "cuda/plan_scratch.h"

#include <algorithm>

#include "cuda/cuda.h"
#include "cuda/tuning.h"
#include "cuda/vote_scratch.h"

namespace pkv::cuda {

AttendScratch::AttendScratch(const Plan& plan) {
  const Cache& cache = *plan.cache;
  const uint64_t tokens = uint64_t{cache.sink_tokens} + cache.ring_tokens + std::max(plan.max_zone_tokens, plan.max_top_k);
  const uint32_t most_tokens = static_cast<uint32_t>(std::min<uint64_t>(tokens, INT32_MAX));
  const uint32_t pieces = (most_tokens + least_piece_tokens - 1) / least_piece_tokens;
  most_pieces = std::min(pieces, std::clamp(tuning::attend_pieces / cache.kv_heads, tuning::attend_least_pieces,
                                            tuning::attend_most_pieces));
  piece_floats = (cache.query_group * (cache.head_dim + 2) + 3) / 4 * 4;  // whole vectors
  const size_t heads = size_t{plan.max_rows} * cache.kv_heads;
  constexpr size_t kAlignBytes = 64;
  bytes = 0;
  const auto take = [&](size_t count) {
    const size_t offset_bytes = bytes;
    bytes += (count * sizeof(uint32_t) + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
    return plan.scratch + offset_bytes;
  };
  arrivals = reinterpret_cast<uint32_t*>(take(heads));
  places = cache.hot_lines > 0 ? reinterpret_cast<uint32_t*>(take(heads * plan.max_top_k)) : nullptr;
  partials = reinterpret_cast<float*>(take(heads * most_pieces * piece_floats));
}

size_t plan_scratch_bytes(const Plan& plan) { return VoteScratch(plan).end_bytes; }

}  // namespace pkv::cuda
