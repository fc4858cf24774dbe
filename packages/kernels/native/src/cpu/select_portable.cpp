#include "cpu/select_kernels.h"

namespace pkv::cpu {
namespace {

void count(const uint16_t* scores, uint32_t tokens, uint32_t lowest, uint32_t* histogram) {
  for (uint32_t token = 0; token < tokens; ++token) {
    const uint32_t score = scores[token];
    if (score < lowest || score >= PKV_SCORE_BINS) continue;
    ++histogram[token % kSelectPartials * kSelectBins + score];
  }
}

void collect(const uint16_t* scores, uint32_t tokens, SelectThreshold threshold, uint32_t* candidates) {
  uint32_t found = 0;
  for (uint32_t token = 0; token < tokens && found < threshold.count; ++token) {
    const uint32_t score = scores[token];
    if (score < threshold.score || score >= PKV_SCORE_BINS) continue;
    if (score == threshold.score) {
      if (threshold.quota == 0) continue;
      --threshold.quota;
    }
    candidates[found++] = token;
  }
}

}  // namespace

const SelectKernels select_portable = {count, collect};

}  // namespace pkv::cpu
