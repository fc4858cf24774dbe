// Reading what is needed next while something else is computed. Internal to each file that includes it: see cpu.h.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace pkv::cpu {
namespace {

constexpr uint32_t kLineBytes = 64;
// How far the requests run ahead of the reading.
constexpr uint32_t kAheadBytes = 3072;

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

}  // namespace
}  // namespace pkv::cpu
