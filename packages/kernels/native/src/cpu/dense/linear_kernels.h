// The innermost loops of linear, once per instruction set.
//
// Every output is the same sum whatever is computed beside it: partial sums in the lanes of one vector over at most
// kLinearBlock elements, then one fixed reduction of the lanes, then block after block. So a row gives the same bits
// alone, in a batch and in a prefill, and with any number of threads.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu/cpu.h"

namespace pkv::cpu {

// Elements of the inner dimension that are summed in lanes: four rows of x and a tile of weights stay in the L1 cache.
constexpr uint32_t kLinearBlock = 1024;

// out[r][o] += sum over `length` elements of x[r] * weight[o].
struct LinearPanel {
  const float* x;  // [rows, length], x_stride elements apart
  size_t x_stride;
  uint32_t rows;
  const void* weight;  // [outputs, length] dtype, weight_stride elements apart
  Dtype dtype;
  size_t weight_stride;
  uint32_t outputs;  // at most LinearKernels::outputs
  uint32_t length;   // at most kLinearBlock
  float* out;        // [rows, outputs], out_stride elements apart
  size_t out_stride;
};

struct LinearKernels {
  uint32_t outputs;      // outputs of one panel
  uint32_t direct_rows;  // up to here panels of 16-bit weights are faster than widening the weights first
  void (*add_panel)(const LinearPanel&);
  // target [count] f32 = source [count] dtype
  void (*widen)(const void* source, Dtype dtype, size_t count, float* target);
};

extern const LinearKernels linear_portable;
extern const LinearKernels linear_avx2;
extern const LinearKernels linear_avx512;

// The version for an instruction set; sets without one of their own share the portable version.
const LinearKernels& linear_kernels(Isa);

}  // namespace pkv::cpu
