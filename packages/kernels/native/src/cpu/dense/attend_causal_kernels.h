// The innermost loops of attend_causal, once per instruction set.
//
// Query rows stand side by side in the lanes of the vectors: a *strip* is `lanes` query rows stored as
// [head_dim, lanes]. Elements of K and V are broadcast. So neither K nor V nor the scores are ever transposed, and the
// softmax of a row runs down its lane without any horizontal step.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu/cpu.h"

namespace pkv::cpu {

// Keys of one tile, which starts at a multiple of this position.
constexpr uint32_t kCausalTile = 64;
// Loops over keys take this many at a time, so tiles are padded to a multiple of it.
constexpr uint32_t kCausalStep = 8;

// The running softmax of one strip, each [lanes].
struct CausalState {
  float* maximum;  // of all logits so far; -infinity when there is none
  float* total;    // sum of exp(logit - maximum)
  float* kept;     // what earlier sums are to be multiplied by: exp(older maximum - maximum)
};

struct AttendCausalKernels {
  uint32_t lanes;  // query rows of a strip
  // target [head_dim] f32 = source [head_dim] dtype. Returns whether all elements are finite.
  bool (*widen)(const void* source, Dtype dtype, uint32_t head_dim, float* target);
  // logits [keys, lanes] = keys [keys, head_dim] (rows key_stride apart) · queries [head_dim, lanes].
  // keys is a multiple of kCausalStep.
  void (*logits)(const float* queries, const float* keys, size_t key_stride, uint32_t key_count, uint32_t head_dim,
                 float* logits);
  // logits becomes the weights exp(logit - maximum). Lane l sees the keys before visible[l] (null: all keys); other
  // logits, and those that are not finite, get weight 0.
  void (*weigh)(float* logits, uint32_t key_count, const int32_t* visible, const CausalState& state);
  // sums [head_dim, lanes] = sums * kept [lanes] + values [keys, head_dim]ᵀ · weights [keys, lanes].
  void (*add_values)(const float* weights, const float* values, size_t value_stride, uint32_t key_count,
                     uint32_t head_dim, const float* kept, float* sums);
};

extern const AttendCausalKernels attend_causal_portable;
extern const AttendCausalKernels attend_causal_avx2;
extern const AttendCausalKernels attend_causal_avx512;

// The version for an instruction set; sets without one of their own share the portable version.
const AttendCausalKernels& attend_causal_kernels(Isa);

}  // namespace pkv::cpu
