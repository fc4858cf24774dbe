// The innermost loops of select, once per instruction set. No std:: and no header with inline functions: see cpu.h.
#pragma once
#include <cstdint>

#include "pkv_spec.h"

namespace pkv::cpu {

// Counts are kept in four partial histograms, so that runs of equal scores do not wait for each other's increments.
constexpr uint32_t kSelectPartials = 4;
constexpr uint32_t kSelectBins = 2048;
static_assert(PKV_SCORE_BINS <= kSelectBins, "every score has a bin");

// Every key above `score` is a candidate, and the first `quota` keys that equal it: `count` keys in all.
struct SelectThreshold {
  uint32_t score, quota, count;
};

struct SelectKernels {
  // Adds every score of scores, [tokens], that lies in [lowest, PKV_SCORE_BINS) to histogram,
  // [kSelectPartials, kSelectBins].
  void (*count)(const uint16_t* scores, uint32_t tokens, uint32_t lowest, uint32_t* histogram);
  // Writes the indices of the candidates, ascending, to candidates, [threshold.count].
  void (*collect)(const uint16_t* scores, uint32_t tokens, SelectThreshold threshold, uint32_t* candidates);
};

extern const SelectKernels select_portable;
extern const SelectKernels select_avx2;
extern const SelectKernels select_avx512;

}  // namespace pkv::cpu
