// The records of a call in tiles of sixteen, and the reading of the next tile while one is worked on. Internal to each
// file that includes it: see cpu.h.
#pragma once
#include <immintrin.h>

#include "cpu/attend_kernels.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kTileTokens = 16;
constexpr uint32_t kLineBytes = 64;
constexpr uint32_t kAheadBytes = 3072;  // by which requests run ahead of the reading

// Reads one word of every line and asks for the lines from `ahead` on. Reads and not prefetches, in the order of the
// memory and all by one instruction: that is what the processor's own prefetching follows, and it keeps far more lines
// under way than the prefetches of a program do.
__attribute__((noinline)) void read_lines(const uint8_t* from, const uint8_t* ahead, uint32_t lines) {
#pragma GCC unroll 1
  for (uint32_t line = 0; line < lines; line++) {
    _mm_prefetch(ahead + line * kLineBytes, _MM_HINT_T2);
    static_cast<void>(*reinterpret_cast<const volatile uint64_t*>(from + line * kLineBytes));
  }
}

// Records of one span, side by side; after the last, no tokens.
struct Tile {
  const uint8_t* records;  // [tokens, 2, head_dim] kv_dtype
  uint32_t tokens;         // at most kTileTokens
  bool to_read;            // there are kTileTokens records, of this call or of the next
};

template <uint32_t RecordBytes>
class Tiles {
 public:
  static constexpr uint32_t kTileLines = kTileTokens * RecordBytes / kLineBytes;

  // The first tile has been read by the call before this one, or is when it is used.
  explicit Tiles(const AttendCall& call)
      : span_(call.spans), end_(call.spans + call.span_count), following_(call.following) {
    next_ = cut();
    after_next_ = cut();
  }

  // The tile whose turn it is.
  Tile take() {
    const Tile taken = next_;
    next_ = after_next_;
    after_next_ = cut();
    read_lines_ = 0;
    return taken;
  }

  // Reads on in the tile after the one taken, at most to its end. One that is not full is left to be read when it is used.
  void read(uint32_t lines) {
    if (!next_.to_read) return;
    const uint32_t at = read_lines_ * kLineBytes, ahead = at + kAheadBytes;
    constexpr uint32_t kTileBytes = kTileLines * kLineBytes;
    static_assert(kAheadBytes < kTileBytes, "no further than the tile after next");
    read_lines(next_.records + at,
               ahead < kTileBytes ? next_.records + ahead : after_next_.records + (ahead - kTileBytes), lines);
    read_lines_ += lines;
  }

 private:
  Tile cut() {
    if (span_ == end_) return cut_following();
    const uint32_t left = span_->tokens - passed_;
    const uint8_t* records = span_->records + size_t{passed_} * RecordBytes;
    const Tile tile{records, left < kTileTokens ? left : kTileTokens, left >= kTileTokens};
    passed_ += tile.tokens;
    if (passed_ == span_->tokens) {
      span_++;
      passed_ = 0;
    }
    return tile;
  }

  // Nothing to work on: tiles that the next call begins with, to be read as if they belonged to this one.
  Tile cut_following() {
    const uint32_t tile = following_tiles_;
    if (following_ == nullptr || tile == kFollowingTokens / kTileTokens) return {end_[-1].records, 0, false};
    following_tiles_++;
    return {following_ + size_t{tile} * kTileTokens * RecordBytes, 0, true};
  }

  const AttendSpan *span_, *end_;
  const uint8_t* following_;
  uint32_t following_tiles_ = 0;  // cut so far
  uint32_t passed_ = 0;           // tokens of *span_
  Tile next_, after_next_;
  uint32_t read_lines_ = 0;  // of next_
};

}  // namespace
}  // namespace pkv::cpu
