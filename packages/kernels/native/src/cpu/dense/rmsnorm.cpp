// rmsnorm: out = x / sqrt(mean(x²) + eps) * weight, group by group. `out` may be `x`.
#include <algorithm>
#include <cmath>

#include "cpu/cpu.h"

namespace pkv::cpu {
namespace {

// Sixteen partial sums, so that the compiler may keep them in vectors; added in a fixed order.
float sum_of_squares(const float* x, uint32_t width) {
  constexpr uint32_t kLanes = 16;
  float lanes[kLanes] = {};
  uint32_t c = 0;
  for (; c + kLanes <= width; c += kLanes) {
    for (uint32_t l = 0; l < kLanes; l++) lanes[l] += x[c + l] * x[c + l];
  }
  for (uint32_t l = 0; c + l < width; l++) lanes[l] += x[c + l] * x[c + l];
  for (uint32_t half = kLanes / 2; half > 0; half /= 2) {
    for (uint32_t l = 0; l < half; l++) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

}  // namespace

void rmsnorm(Runtime& runtime, const RmsnormParams& params) {
  // Elements of one task at least: a few microseconds of work.
  constexpr size_t kTaskElements = 16384;
  const uint32_t width = params.width;
  const size_t task_rows = kTaskElements / (size_t{params.groups} * width) + 1;
  const size_t tasks = (params.row_count + task_rows - 1) / task_rows;
  parallel_for(runtime.pool, tasks, [&](size_t task, unsigned) {
    const size_t end = std::min<size_t>((task + 1) * task_rows, params.row_count);
    for (size_t r = task * task_rows; r < end; r++) {
      for (uint32_t group = 0; group < params.groups; group++) {
        const float* x = params.x.row(r) + size_t{group} * width;
        float* out = params.out.row(r) + size_t{group} * width;
        const float mean = sum_of_squares(x, width) / static_cast<float>(width);
        const float scale = 1.0f / std::sqrt(mean + params.eps);
        for (uint32_t c = 0; c < width; c++) out[c] = x[c] * scale * params.weight[c];
      }
    }
  });
}

}  // namespace pkv::cpu
