#include "cpu/time_read.h"

#include <atomic>
#include <chrono>
#include <cstring>

namespace pkv::cpu {
namespace {

constexpr size_t kPiece = size_t{1} << 20;
constexpr size_t kLineBytes = 64;
constexpr size_t kPrefetchBytes = 4096;

struct Pair { uint64_t low, high; };

inline void add(Pair& sum, const uint8_t* from) {
  Pair words;
  std::memcpy(&words, from, sizeof words);
  sum.low += words.low;
  sum.high += words.high;
}

// The sum of the piece's words, so that no read can be left out; a last part of a line is passed over.
uint64_t sum(const uint8_t* from, size_t bytes) {
  Pair a{}, b{}, c{}, d{};
  for (size_t at = 0; at + kLineBytes <= bytes; at += kLineBytes) {
    __builtin_prefetch(from + at + kPrefetchBytes, 0, 2);  // into the second cache
    add(a, from + at);
    add(b, from + at + 16);
    add(c, from + at + 32);
    add(d, from + at + 48);
  }
  return a.low + a.high + b.low + b.high + c.low + c.high + d.low + d.high;
}

}  // namespace

double time_read(Parallel& pool, const uint8_t* from, size_t bytes) {
  static std::atomic<uint64_t> kept{0};
  const auto start = std::chrono::steady_clock::now();
  parallel_for(pool, (bytes + kPiece - 1) / kPiece, [&](size_t index, unsigned) {
    const size_t begin = index * kPiece;
    kept.fetch_add(sum(from + begin, bytes - begin < kPiece ? bytes - begin : kPiece), std::memory_order_relaxed);
  });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace pkv::cpu
