// The innermost loops of rerank, once per instruction set.
#pragma once
#include <cstdint>

#include "cpu/cpu.h"

namespace pkv::cpu {

// Candidates of one block, and rotated queries that a kernel takes at once.
constexpr uint32_t kEstimateBlockKeys = 32;
constexpr uint32_t kEstimateQueries = 4;

// A block of candidates of one KV head against up to four rotated queries.
struct EstimateBlock {
  const uint8_t* const* codes;         // [kEstimateBlockKeys], each [head_dim / 2]; from `keys` on any readable one
  const uint8_t* const* weights;       // [kEstimateBlockKeys], each [head_dim / 8]
  const uint8_t* const* next_codes;    // [kEstimateBlockKeys], the block after this one, to be prefetched
  const uint8_t* const* next_weights;  // [kEstimateBlockKeys]
  uint32_t keys;                       // 1..kEstimateBlockKeys
  uint32_t head_dim;                   // a multiple of 64, at most 256
  uint32_t queries;                    // 1..kEstimateQueries
  const float* rotated;                // [queries, head_dim], in the kernel's order
  const float* values;                 // [16]: what a code nibble stands for, sign * centre
  float* estimates;                    // query h, key i: estimates[h * estimate_stride + i]
  size_t estimate_stride;
};

// Sums over the candidates whose estimate is finite, about the line through (score, logit).
struct Moments {
  double count, scores, logits, score_squares, logit_squares, products;
};

struct RerankKernels {
  // estimate = sum over subspaces of weight * <values of its codes, its part of the rotated query>.
  void (*estimate)(const EstimateBlock&);
  // Elements after which a rotated query repeats its order "even coordinates, then odd ones", or 0 for the natural
  // order: a code byte holds an even coordinate in its low nibble and an odd one in its high nibble.
  uint32_t interleave;
  // The largest finite x, or -infinity.
  float (*largest)(const float* x, size_t count);
  // Sum of exp(scale * x - reference) over finite x; `reference` is at least every scale * x.
  double (*exp_sum)(const float* x, size_t count, float scale, float reference);
  // y = max(y, scale * x - log_sum), where that is a number.
  void (*raise_to_share)(const float* x, size_t count, float scale, float log_sum, float* y);
  // y += exp(scale * x - reference) / their sum over finite x; `reference` as above. `exps`, [count], is scratch.
  void (*add_softmax)(const float* x, size_t count, float scale, float reference, float* exps, float* y);
  // Moments of (scores[i], x[i]) over finite x.
  Moments (*moments)(const float* x, const float* scores, size_t count);
};

extern const RerankKernels rerank_portable;
extern const RerankKernels rerank_avx2;
extern const RerankKernels rerank_avx512;

// The version for an instruction set; sets without one of their own share the portable version.
const RerankKernels& rerank_kernels(Isa);

}  // namespace pkv::cpu
