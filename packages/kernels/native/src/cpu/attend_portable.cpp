#include <cmath>
#include <limits>

#include "cpu/attend_blocks.h"
#include "cpu/kv_convert.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kLanes = 8;  // independent partial sums, so that a compiler may use vectors
constexpr float kNothing = -std::numeric_limits<float>::infinity();

struct F32 {
  using Element = float;
  static float widen(float x) { return x; }
};
struct Bf16 {
  using Element = uint16_t;
  static float widen(uint16_t x) { return bf16_to_f32(x); }
};
struct F16 {
  using Element = uint16_t;
  static float widen(uint16_t x) { return f16_to_f32(x); }
};

template <class Format>
void widen_row(const uint8_t* from, uint32_t count, float* to) {
  const auto* elements = reinterpret_cast<const typename Format::Element*>(from);
  for (uint32_t i = 0; i < count; i++) to[i] = Format::widen(elements[i]);
}

float dot(const float* a, const float* b, uint32_t count) {
  float lanes[kLanes] = {};
  for (uint32_t i = 0; i < count; i += kLanes) {
    for (uint32_t j = 0; j < kLanes; j++) lanes[j] += a[i + j] * b[i + j];
  }
  return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

template <class Format>
void attend_block(const AttendCall& call, const Block& block) {
  const uint32_t d = call.head_dim;
  const size_t value_bytes = d * sizeof(typename Format::Element), record_bytes = 2 * value_bytes;
  float row[PKV_MAX_HEAD_DIM];
  float weights[kAttendHeads][kBlockTokens];
  for (uint32_t t = 0; t < block.tokens; t++) {
    widen_row<Format>(block.records + t * record_bytes, d, row);
    for (uint32_t h = 0; h < call.heads; h++) weights[h][t] = dot(call.q + h * d, row, d);
  }
  for (uint32_t h = 0; h < call.heads; h++) {
    float maximum = call.maximum[h];
    for (uint32_t t = 0; t < block.tokens; t++) {
      if (std::isfinite(weights[h][t]) && weights[h][t] > maximum) maximum = weights[h][t];
    }
    const float rescale = maximum == kNothing ? 1.0f : std::exp(call.maximum[h] - maximum);
    float sum = 0;
    for (uint32_t t = 0; t < block.tokens; t++) {
      weights[h][t] = std::isfinite(weights[h][t]) ? std::exp(weights[h][t] - maximum) : 0.0f;
      sum += weights[h][t];
    }
    float* output = call.output + h * d;
    for (uint32_t i = 0; i < d; i++) output[i] *= rescale;
    call.sum[h] = call.sum[h] * rescale + sum;
    call.maximum[h] = maximum;
  }
  for (uint32_t t = 0; t < block.tokens; t++) {
    widen_row<Format>(block.records + t * record_bytes + value_bytes, d, row);
    for (uint32_t h = 0; h < call.heads; h++) {
      const float weight = weights[h][t];
      if (weight == 0) continue;  // 0 * V would not be 0 where V is not finite
      float* output = call.output + h * d;
      for (uint32_t i = 0; i < d; i++) output[i] += weight * row[i];
    }
  }
}

template <class Format>
void attend_spans(const AttendCall& call) {
  const size_t record_bytes = size_t{2} * call.head_dim * sizeof(typename Format::Element);
  for_each_block(call, record_bytes, [&](const Block& block) { attend_block<Format>(call, block); });
}

}  // namespace

const AttendKernels attend_portable = {attend_spans<F32>, attend_spans<Bf16>, attend_spans<F16>, 0};

}  // namespace pkv::cpu
