// What the vector versions of select share. Internal to each file that includes it: see cpu.h.
#pragma once
#include "cpu/select_kernels.h"

namespace pkv::cpu {
namespace {

inline void add_scores(const uint32_t* scores, uint32_t count, uint32_t* histogram) {
  for (uint32_t i = 0; i < count; ++i) ++histogram[i % kSelectPartials * kSelectBins + scores[i]];
}

// Takes the ties of one step, one bit a lane, as far as the quota lasts: those of the smallest indices.
inline uint32_t take_ties(uint32_t ties, uint32_t& quota) {
  const uint32_t tie_count = static_cast<uint32_t>(__builtin_popcount(ties));
  if (tie_count <= quota) {
    quota -= tie_count;
    return ties;
  }
  uint32_t rest = ties;
  for (; quota > 0; --quota) rest &= rest - 1;
  return ties & ~rest;
}

}  // namespace
}  // namespace pkv::cpu
