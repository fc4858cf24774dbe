// The innermost loop of attend, once per instruction set and element type.
#pragma once
#include <cstdint>

#include "cpu/cpu.h"

namespace pkv::cpu {

// Most spans of one call: at 128K tokens the largest piece of a row (attend_pieces.h) is one call.
constexpr uint32_t kAttendSpans = 36;
// Query heads that a kernel takes at once; a wider query group reads the spans again, from the second-level cache.
constexpr uint32_t kAttendHeads = 4;
// Records of the next call that a kernel may read at the end of this one, so that the memory goes on working.
constexpr uint32_t kFollowingTokens = 32;

// Records side by side.
struct AttendSpan {
  const uint8_t* records;  // [tokens, 2, head_dim] kv_dtype
  uint32_t tokens;         // at least 1
};

// Records of one KV head, and the running softmax of up to four of its query heads.
struct AttendCall {
  const AttendSpan* spans;   // [span_count]
  uint32_t span_count;       // 1..kAttendSpans
  const uint8_t* following;  // [kFollowingTokens, 2, head_dim] kv_dtype that this thread's next call begins with, or null
  uint32_t head_dim;         // a multiple of 64, at most 256
  uint32_t heads;            // 1..kAttendHeads
  const float* q;            // [heads, head_dim], times 1 / sqrt(head_dim), in the kernel's order
  float* output;             // [heads, head_dim], sum of exp(logit - maximum) * V, in the kernel's order
  float* maximum;            // [heads], the largest logit, or up to 8 less; -infinity before the first finite logit
  float* sum;                // [heads], sum of exp(logit - maximum)
};

// Adds the spans to the running softmax. A logit that is not finite is left out together with its V.
using AttendFunction = void (*)(const AttendCall&);

struct AttendKernels {
  AttendFunction f32, bf16, f16;
  // Elements after which a bf16 row repeats its order "even elements, then odd ones", or 0 for the natural order:
  // two bf16 in one 32-bit lane are widened by one shift and one mask, without a shuffle.
  uint32_t bf16_interleave;
  AttendFunction of(Dtype dtype) const { return dtype == Dtype::f32 ? f32 : dtype == Dtype::bf16 ? bf16 : f16; }
};

extern const AttendKernels attend_portable;
extern const AttendKernels attend_avx2;
extern const AttendKernels attend_avx512;
extern const AttendKernels attend_amx;

// The version for an instruction set; sets without one of their own share the portable version.
const AttendKernels& attend_kernels(Isa);

}  // namespace pkv::cpu
