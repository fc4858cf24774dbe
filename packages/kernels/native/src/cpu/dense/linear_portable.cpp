// linear in plain C++: eight lanes of partial sums that the compiler keeps in vectors of any width.
#include "cpu/dense/linear_kernels.h"
#include "cpu/kv_convert.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kRows = 2;
constexpr uint32_t kOutputs = 2;
constexpr uint32_t kDirectRows = 2;
constexpr uint32_t kLanes = 8;

struct F32 {
  using Element = float;
  static float widen(float value) { return value; }
};
struct Bf16 {
  using Element = uint16_t;
  static float widen(uint16_t bits) { return bf16_to_f32(bits); }
};
struct F16 {
  using Element = uint16_t;
  static float widen(uint16_t bits) { return f16_to_f32(bits); }
};

template <uint32_t Rows, uint32_t Outputs, class Weight>
void add_tile(const LinearPanel& panel, uint32_t row, uint32_t output) {
  const float* x = panel.x + row * panel.x_stride;
  const auto* weight = static_cast<const typename Weight::Element*>(panel.weight) + output * panel.weight_stride;
  float sums[Rows][Outputs][kLanes] = {};
  uint32_t i = 0;
  for (; i + kLanes <= panel.length; i += kLanes) {
    for (uint32_t o = 0; o < Outputs; o++) {
      float w[kLanes];
      for (uint32_t l = 0; l < kLanes; l++) w[l] = Weight::widen(weight[o * panel.weight_stride + i + l]);
      for (uint32_t r = 0; r < Rows; r++) {
        for (uint32_t l = 0; l < kLanes; l++) sums[r][o][l] += x[r * panel.x_stride + i + l] * w[l];
      }
    }
  }
  for (uint32_t l = 0; i + l < panel.length; l++) {
    for (uint32_t o = 0; o < Outputs; o++) {
      const float w = Weight::widen(weight[o * panel.weight_stride + i + l]);
      for (uint32_t r = 0; r < Rows; r++) sums[r][o][l] += x[r * panel.x_stride + i + l] * w;
    }
  }
  float* out = panel.out + row * panel.out_stride + output;
  for (uint32_t r = 0; r < Rows; r++) {
    for (uint32_t o = 0; o < Outputs; o++) {
      const float* s = sums[r][o];
      out[r * panel.out_stride + o] += ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
    }
  }
}

template <uint32_t Outputs, class Weight>
void add_outputs(const LinearPanel& panel, uint32_t output) {
  uint32_t row = 0;
  for (; row + kRows <= panel.rows; row += kRows) add_tile<kRows, Outputs, Weight>(panel, row, output);
  if (row < panel.rows) add_tile<1, Outputs, Weight>(panel, row, output);
}

template <class Weight>
void add_panel_of(const LinearPanel& panel) {
  if (panel.outputs == kOutputs) return add_outputs<kOutputs, Weight>(panel, 0);
  add_outputs<1, Weight>(panel, 0);
}

void add_panel(const LinearPanel& panel) {
  switch (panel.dtype) {
    case Dtype::f32: return add_panel_of<F32>(panel);
    case Dtype::bf16: return add_panel_of<Bf16>(panel);
    case Dtype::f16: return add_panel_of<F16>(panel);
  }
}

template <class Weight>
void widen_of(const void* source, size_t count, float* target) {
  const auto* from = static_cast<const typename Weight::Element*>(source);
  for (size_t i = 0; i < count; i++) target[i] = Weight::widen(from[i]);
}

void widen(const void* source, Dtype dtype, size_t count, float* target) {
  switch (dtype) {
    case Dtype::f32: return widen_of<F32>(source, count, target);
    case Dtype::bf16: return widen_of<Bf16>(source, count, target);
    case Dtype::f16: return widen_of<F16>(source, count, target);
  }
}

}  // namespace

const LinearKernels linear_portable = {kOutputs, kDirectRows, add_panel, widen};

}  // namespace pkv::cpu
