// How attend cuts what a row attends to. For drivers only: inline functions do not belong in the `_avx2`, `_avx512` and
// `_amx` files (see cpu.h).
#pragma once
#include <algorithm>
#include <cstddef>

#include "pkv_spec.h"

namespace pkv::cpu {

// Pieces end at the ends of pages after the sink, so that one of mode dense walks whole pages. The first take an eighth of the
// pages each, because a piece has a beginning and an end that read nothing; then a quarter of what is left, down to a
// thirty-second of all, so that threads finish together. They depend on the tokens alone, never on the number of threads, so
// results do not change with it.
class AttendPieces {
 public:
  // 4 or 5 pieces leave less than half of the pages, 5 more at most an eighth of them, 4 or 5 more nothing.
  static constexpr size_t most = 16;

  AttendPieces(size_t sink_tokens, size_t tokens) {
    if (tokens == 0) return;
    sink_tokens = std::min(sink_tokens, tokens);
    const size_t pages = divide_up(tokens - sink_tokens, PKV_PAGE_TOKENS);
    size_t left = pages;
    do {
      left -= std::min(left, std::clamp(divide_up(left, 4), divide_up(pages, 32), divide_up(pages, 8)));
      ends_[count_++] = std::min(sink_tokens + (pages - left) * PKV_PAGE_TOKENS, tokens);
    } while (left > 0);
  }

  size_t count() const { return count_; }
  size_t begin(size_t piece) const { return piece == 0 ? 0 : ends_[piece - 1]; }
  size_t end(size_t piece) const { return ends_[piece]; }

 private:
  static size_t divide_up(size_t count, size_t by) { return (count + by - 1) / by; }

  size_t count_ = 0;
  size_t ends_[most];
};

}  // namespace pkv::cpu
