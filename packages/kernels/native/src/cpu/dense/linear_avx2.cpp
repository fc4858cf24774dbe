// linear with AVX2 and FMA: tiles of 3 rows x 4 outputs, 12 of the 16 registers as sums; seven loads feed 12 fused
// multiply-adds.
#include <immintrin.h>

#include "cpu/dense/linear_kernels.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kRows = 3;
constexpr uint32_t kOutputs = 4;
constexpr uint32_t kDirectRows = 32;
constexpr uint32_t kLanes = 8;

// Eight elements of each dtype as f32.
struct F32 {
  using Element = float;
  static __m256 load(const float* p) { return _mm256_loadu_ps(p); }
};

struct Bf16 {
  using Element = uint16_t;
  static __m256 load(const uint16_t* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
};

struct F16 {
  using Element = uint16_t;
  static __m256 load(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
};

// The first `count` < 8 elements, the others zero.
template <class Type>
__m256 load_part(const typename Type::Element* p, uint32_t count) {
  typename Type::Element part[kLanes] = {};
  for (uint32_t i = 0; i < count; i++) part[i] = p[i];
  return Type::load(part);
}

// Lane sums of four vectors. The order is the same for each: pairs, pairs of pairs, then halves.
inline __m128 lane_sums(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 abcd = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
}

template <uint32_t Rows, uint32_t Outputs, class Weight>
void add_tile(const LinearPanel& panel, uint32_t row, uint32_t output) {
  const float* x = panel.x + row * panel.x_stride;
  const auto* weight = static_cast<const typename Weight::Element*>(panel.weight) + output * panel.weight_stride;
  __m256 sums[Rows][Outputs];
  for (uint32_t r = 0; r < Rows; r++) {
    for (uint32_t o = 0; o < Outputs; o++) sums[r][o] = _mm256_setzero_ps();
  }
  uint32_t i = 0;
  for (; i + kLanes <= panel.length; i += kLanes) {
    __m256 values[Rows];
    for (uint32_t r = 0; r < Rows; r++) values[r] = _mm256_loadu_ps(x + r * panel.x_stride + i);
    for (uint32_t o = 0; o < Outputs; o++) {
      const __m256 w = Weight::load(weight + o * panel.weight_stride + i);
      for (uint32_t r = 0; r < Rows; r++) sums[r][o] = _mm256_fmadd_ps(values[r], w, sums[r][o]);
    }
  }
  if (i < panel.length) {
    const uint32_t rest = panel.length - i;
    __m256 values[Rows];
    for (uint32_t r = 0; r < Rows; r++) values[r] = load_part<F32>(x + r * panel.x_stride + i, rest);
    for (uint32_t o = 0; o < Outputs; o++) {
      const __m256 w = load_part<Weight>(weight + o * panel.weight_stride + i, rest);
      for (uint32_t r = 0; r < Rows; r++) sums[r][o] = _mm256_fmadd_ps(values[r], w, sums[r][o]);
    }
  }
  for (uint32_t r = 0; r < Rows; r++) {
    const __m256* s = sums[r];
    alignas(16) float totals[4];
    _mm_store_ps(totals, lane_sums(s[0], s[1 % Outputs], s[2 % Outputs], s[3 % Outputs]));
    float* out = panel.out + (row + r) * panel.out_stride + output;
    for (uint32_t o = 0; o < Outputs; o++) out[o] += totals[o];
  }
}

template <uint32_t Outputs, class Weight>
void add_outputs(const LinearPanel& panel, uint32_t output) {
  uint32_t row = 0;
  for (; row + kRows <= panel.rows; row += kRows) add_tile<kRows, Outputs, Weight>(panel, row, output);
  switch (panel.rows - row) {
    case 2: return add_tile<2, Outputs, Weight>(panel, row, output);
    case 1: return add_tile<1, Outputs, Weight>(panel, row, output);
    default: return;
  }
}

template <class Weight>
void add_panel_of(const LinearPanel& panel) {
  if (panel.outputs == kOutputs) return add_outputs<kOutputs, Weight>(panel, 0);
  for (uint32_t output = 0; output < panel.outputs; output++) add_outputs<1, Weight>(panel, output);
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
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) _mm256_storeu_ps(target + i, Weight::load(from + i));
  if (i == count) return;
  alignas(32) float part[kLanes];
  _mm256_store_ps(part, load_part<Weight>(from + i, static_cast<uint32_t>(count - i)));
  for (uint32_t l = 0; i + l < count; l++) target[i + l] = part[l];
}

void widen(const void* source, Dtype dtype, size_t count, float* target) {
  switch (dtype) {
    case Dtype::f32: return widen_of<F32>(source, count, target);
    case Dtype::bf16: return widen_of<Bf16>(source, count, target);
    case Dtype::f16: return widen_of<F16>(source, count, target);
  }
}

}  // namespace

const LinearKernels linear_avx2 = {kOutputs, kDirectRows, add_panel, widen};

}  // namespace pkv::cpu
