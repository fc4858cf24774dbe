// linear: out = x · weightᵀ (+ bias) (+ out). Few rows are limited by memory: the weights are read once, in their own
// dtype, by all threads. Many rows are limited by arithmetic: a tile of 16-bit weights is widened to f32 once for a block
// of rows. Both use the same panels, so a row does not depend on the number of rows beside it.
#include <algorithm>

#include "cpu/dense/linear_kernels.h"

namespace pkv::cpu {
namespace {

// Elements of x that stay in the L2 cache: 1 MiB.
constexpr size_t kNearElements = size_t{1} << 18;
// Rows of x that are swept for every tile of weights.
constexpr uint32_t kRowBlock = kNearElements / kLinearBlock;
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
  const uint32_t in_width = params.in_width;
  const bool widens = params.dtype != Dtype::f32 && params.row_count > kernels.direct_rows;
  const size_t weight_row_bytes = in_width * dtype_bytes(params.dtype);
  alignas(64) float tile[kMostOutputs * kLinearBlock];
  LinearPanel panel;
  panel.rows = task.rows;
  panel.x_stride = params.x.row_stride;
  panel.out_stride = params.out.row_stride;
  panel.dtype = widens ? Dtype::f32 : params.dtype;
  panel.weight_stride = widens ? kLinearBlock : in_width;
  const auto add_panel = [&](uint32_t block, uint32_t output) {
    const uint8_t* weight = static_cast<const uint8_t*>(params.weight) +
                            (task.first_output + output) * weight_row_bytes + block * dtype_bytes(params.dtype);
    panel.outputs = std::min(kernels.outputs, task.outputs - output);
    panel.length = std::min(kLinearBlock, in_width - block);
    for (uint32_t o = 0; widens && o < panel.outputs; o++) {
      kernels.widen(weight + o * weight_row_bytes, params.dtype, panel.length, tile + o * kLinearBlock);
    }
    panel.x = params.x.row(task.first_row) + block;
    panel.weight = widens ? static_cast<const void*>(tile) : weight;
    panel.out = params.out.row(task.first_row) + task.first_output + output;
    kernels.add_panel(panel);
  };
  // While all of x is near, along the weights' rows, as they lie in memory; else every output of a block while the
  // block's part of x is near.
  if (size_t{task.rows} * in_width <= kNearElements) {
    for (uint32_t output = 0; output < task.outputs; output += kernels.outputs) {
      for (uint32_t block = 0; block < in_width; block += kLinearBlock) add_panel(block, output);
    }
  } else {
    for (uint32_t block = 0; block < in_width; block += kLinearBlock) {
      for (uint32_t output = 0; output < task.outputs; output += kernels.outputs) add_panel(block, output);
    }
  }
}

}  // namespace

const LinearKernels& linear_kernels(Isa isa) {
#if defined(__x86_64__) || defined(_M_X64)
  if (isa >= Isa::avx512) return linear_avx512;
  if (isa >= Isa::avx2) return linear_avx2;
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
