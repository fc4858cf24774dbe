// linear: out = x · weightᵀ (+ bias) (+ out). Few rows are limited by memory: the weights are read once, in their own
// dtype, by all threads. Many rows are limited by arithmetic: a tile of weights is widened to f32 once for all rows of
// a block. Both use the same panels, so a row does not depend on the number of rows beside it.
#include <algorithm>

#include "cpu/dense/linear_kernels.h"

namespace pkv::cpu {
namespace {

// Up to here widening in registers, once for every four rows, costs less than a pass over memory.
constexpr uint32_t kFewRows = 8;
// Rows of x that are swept for every tile of weights: with blocks of 1024 elements 1 MiB, within the L2 cache.
constexpr uint32_t kRowBlock = 256;
// Multiply-adds of one task at least: about a microsecond, far above the price of handing out an index.
constexpr size_t kTaskProducts = size_t{1} << 15;
// Tasks per thread that suffice for an even split.
constexpr size_t kTasksPerThread = 4;
constexpr uint32_t kMostOutputs = 8;  // of any LinearKernels

struct Task {
  uint32_t first_row, rows, first_output, outputs;
};

// The value that the sums are added to: nothing, the bias, what out holds, or both.
void begin_outputs(const LinearParams& params, const Task& task) {
  for (uint32_t r = 0; r < task.rows; r++) {
    float* out = params.out.row(task.first_row + r) + task.first_output;
    const float* bias = params.bias == nullptr ? nullptr : params.bias + task.first_output;
    for (uint32_t o = 0; o < task.outputs; o++) {
      out[o] = (params.accumulate ? out[o] : 0.0f) + (bias == nullptr ? 0.0f : bias[o]);
    }
  }
}

void run_task(const LinearKernels& kernels, const LinearParams& params, const Task& task) {
  begin_outputs(params, task);
  const bool widens = params.dtype != Dtype::f32 && params.row_count > kFewRows;
  const size_t element_bytes = dtype_bytes(params.dtype);
  alignas(64) float tile[kMostOutputs * kLinearBlock];
  LinearPanel panel;
  panel.rows = task.rows;
  panel.x_stride = params.x.row_stride;
  panel.out_stride = params.out.row_stride;
  panel.dtype = widens ? Dtype::f32 : params.dtype;
  panel.weight_stride = widens ? kLinearBlock : params.in_width;
  const auto add_tile = [&](uint32_t block, uint32_t length, uint32_t output, uint32_t outputs) {
    const size_t first_weight = size_t{task.first_output + output} * params.in_width + block;
    const uint8_t* weight = static_cast<const uint8_t*>(params.weight) + first_weight * element_bytes;
    if (widens) {
      for (uint32_t o = 0; o < outputs; o++) {
        kernels.widen(weight + size_t{o} * params.in_width * element_bytes, params.dtype, length,
                      tile + o * kLinearBlock);
      }
    }
    panel.x = params.x.row(task.first_row) + block;
    panel.weight = widens ? static_cast<const void*>(tile) : weight;
    panel.outputs = outputs;
    panel.length = length;
    panel.out = params.out.row(task.first_row) + task.first_output + output;
    kernels.add_panel(panel);
  };
  // Few rows: along the weights' rows, as they lie in memory. Many: all outputs of a block while its part of x is near.
  const uint32_t in_width = params.in_width;
  if (params.row_count <= kFewRows) {
    for (uint32_t output = 0; output < task.outputs; output += kernels.outputs) {
      const uint32_t outputs = std::min(kernels.outputs, task.outputs - output);
      for (uint32_t block = 0; block < in_width; block += kLinearBlock) {
        add_tile(block, std::min(kLinearBlock, in_width - block), output, outputs);
      }
    }
    return;
  }
  for (uint32_t block = 0; block < in_width; block += kLinearBlock) {
    for (uint32_t output = 0; output < task.outputs; output += kernels.outputs) {
      const uint32_t outputs = std::min(kernels.outputs, task.outputs - output);
      add_tile(block, std::min(kLinearBlock, in_width - block), output, outputs);
    }
  }
}

}  // namespace

const LinearKernels& linear_kernels(Isa isa) {
#if defined(__x86_64__) || defined(_M_X64)
  if (isa == Isa::avx512) return linear_avx512;
  if (isa == Isa::avx2) return linear_avx2;
#endif
  (void)isa;
  return linear_portable;
}

void linear(Runtime& runtime, const LinearParams& params) {
  const LinearKernels& kernels = linear_kernels(runtime.isa);
  const uint32_t row_block = std::min(params.row_count, kRowBlock);
  const size_t row_blocks = (params.row_count + row_block - 1) / row_block;
  // Outputs of a task: enough work to be worth handing out, and no more than an even split needs.
  const size_t least = kTaskProducts / (size_t{row_block} * params.in_width) + 1;
  const size_t even = params.out_width * row_blocks / (kTasksPerThread * runtime.pool.threads()) + 1;
  const size_t tiles = (std::max(least, even) + kernels.outputs - 1) / kernels.outputs;
  const size_t task_outputs = tiles * kernels.outputs;
  const size_t column_tasks = (params.out_width + task_outputs - 1) / task_outputs;
  parallel_for(runtime.pool, row_blocks * column_tasks, [&](size_t index, unsigned) {
    Task task;
    task.first_row = static_cast<uint32_t>(index / column_tasks) * row_block;
    task.rows = std::min(row_block, params.row_count - task.first_row);
    task.first_output = static_cast<uint32_t>(index % column_tasks * task_outputs);
    task.outputs = static_cast<uint32_t>(std::min<size_t>(task_outputs, params.out_width - task.first_output));
    run_task(kernels, params, task);
  });
}

}  // namespace pkv::cpu
