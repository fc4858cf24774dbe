#include "cpu/time_read.h"

#include <atomic>
#include <chrono>
#include <cstring>

namespace pkv::cpu {
namespace {

constexpr size_t kPiece = size_t{1} << 20;
constexpr size_t kLanes = 8;
constexpr size_t kLineBytes = kLanes * sizeof(uint64_t);
constexpr size_t kPrefetchBytes = 4096;

// The sum of the piece's words, so that no read can be left out; a last part of a line is passed over.
uint64_t sum(const uint8_t* from, size_t bytes) {
  uint64_t lanes[kLanes] = {};
  for (size_t at = 0; at + kLineBytes <= bytes; at += kLineBytes) {
    __builtin_prefetch(from + at + kPrefetchBytes, 0, 2);  // into the second cache
    uint64_t words[kLanes];
    std::memcpy(words, from + at, kLineBytes);
    for (size_t lane = 0; lane < kLanes; lane++) lanes[lane] += words[lane];
  }
  uint64_t all = 0;
  for (uint64_t lane : lanes) all += lane;
  return all;
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
