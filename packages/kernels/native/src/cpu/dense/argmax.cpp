// argmax: the greedy choice of each row, ties to the smaller index. NaN never wins; a row of NaN alone gives 0.
#include <limits>

#include "cpu/cpu.h"

namespace pkv::cpu {
namespace {

int32_t largest_index(const float* x, uint32_t width) {
  // First the largest value, in lanes that the compiler keeps in vectors; then the first place that holds it.
  constexpr uint32_t kLanes = 16;
  float lanes[kLanes];
  for (float& lane : lanes) lane = -std::numeric_limits<float>::infinity();
  uint32_t c = 0;
  for (; c + kLanes <= width; c += kLanes) {
    for (uint32_t l = 0; l < kLanes; l++) lanes[l] = x[c + l] > lanes[l] ? x[c + l] : lanes[l];
  }
  for (uint32_t l = 0; c + l < width; l++) lanes[l] = x[c + l] > lanes[l] ? x[c + l] : lanes[l];
  float largest = lanes[0];
  for (const float lane : lanes) largest = lane > largest ? lane : largest;
  for (uint32_t i = 0; i < width; i++) {
    if (x[i] == largest) return static_cast<int32_t>(i);
  }
  return 0;
}

}  // namespace

void argmax(Runtime& runtime, const ArgmaxParams& params) {
  parallel_for(runtime.pool, params.row_count,
               [&](size_t r, unsigned) { params.out[r] = largest_index(params.x.row(r), params.width); });
}

}  // namespace pkv::cpu
