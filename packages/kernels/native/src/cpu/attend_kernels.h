// The innermost loop of attend, once per instruction set and element type.
#pragma once
#include <cstdint>

#include "cpu/cpu.h"

namespace pkv::cpu {

// Tokens of one block: their logits are computed, then one maximum and one rescale serve all of them.
constexpr uint32_t kAttendBlockTokens = 64;
// Query heads that a kernel takes at once; a wider query group reads the block again, from the first-level cache.
constexpr uint32_t kAttendHeads = 4;

// A block of records of one KV head, and the running softmax of up to four of its query heads.
struct AttendBlock {
  const uint8_t* const* records;  // [kAttendBlockTokens], each [2, head_dim] kv_dtype; past `tokens`, any readable one
  const uint8_t* const* next;     // [kAttendBlockTokens], the records of the block after this one, to be prefetched
  uint32_t tokens;                // 1..kAttendBlockTokens
  uint32_t head_dim;              // a multiple of 64, at most 256
  uint32_t heads;                 // 1..kAttendHeads
  const float* q;                 // [heads, head_dim], times 1 / sqrt(head_dim), in the kernel's order
  float* output;                  // [heads, head_dim], sum of exp(logit - maximum) * V, in the kernel's order
  float* maximum;                 // [heads], -infinity before the first finite logit
  float* sum;                     // [heads], sum of exp(logit - maximum)
};

// Adds the block to the running softmax. A logit that is not finite is left out together with its V.
using AttendBlockFunction = void (*)(const AttendBlock&);

struct AttendKernels {
  AttendBlockFunction f32, bf16, f16;
  // Elements after which a bf16 row repeats its order "even elements, then odd ones", or 0 for the natural order:
  // two bf16 in one 32-bit lane are widened by one shift and one mask, without a shuffle.
  uint32_t bf16_interleave;
  AttendBlockFunction of(Dtype dtype) const { return dtype == Dtype::f32 ? f32 : dtype == Dtype::bf16 ? bf16 : f16; }
};

extern const AttendKernels attend_portable;
extern const AttendKernels attend_avx2;
extern const AttendKernels attend_avx512;

// The version for an instruction set; sets without one of their own share the portable version.
const AttendKernels& attend_kernels(Isa);

}  // namespace pkv::cpu
