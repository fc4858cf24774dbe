// linear with AVX-512: tiles of 4 rows x 6 outputs, 24 of the 32 registers as sums; ten loads feed 24 fused
// multiply-adds, so the two multiply ports are the limit and not the loads.
#include <immintrin.h>

#include "cpu/dense/linear_kernels.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kRows = 4;
constexpr uint32_t kOutputs = 6;
constexpr uint32_t kDirectRows = 64;
constexpr uint32_t kLanes = 16;

// Sixteen elements of each dtype as f32, from element i on; elements outside the mask are zero.
struct F32 {
  using Element = float;
  static __m512 load(const float* p, size_t i) { return _mm512_loadu_ps(p + i); }
  static __m512 load(const float* p, size_t i, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, p + i); }
};

struct Bf16 {
  using Element = uint16_t;
  static __m512 widen(__m256i bits) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static __m512 load(const uint16_t* p, size_t i) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i)));
  }
  static __m512 load(const uint16_t* p, size_t i, __mmask16 mask) {
    return widen(_mm256_maskz_loadu_epi16(mask, p + i));
  }
};

struct F16 {
  using Element = uint16_t;
  static __m512 load(const uint16_t* p, size_t i) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i)));
  }
  static __m512 load(const uint16_t* p, size_t i, __mmask16 mask) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, p + i));
  }
};

// Lane sums of four vectors. The order is the same for each: lanes i and i + 2, then i and i + 1, then quarters.
inline __m128 lane_sums(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512d lo = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512d hi = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512 abcd = _mm512_add_ps(_mm512_castpd_ps(lo), _mm512_castpd_ps(hi));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

template <uint32_t Rows, uint32_t Outputs, class Weight>
void add_tile(const LinearPanel& panel, uint32_t row, uint32_t output) {
  const float* x = panel.x + row * panel.x_stride;
  const auto* weight = static_cast<const typename Weight::Element*>(panel.weight) + output * panel.weight_stride;
  __m512 sums[Rows][Outputs];
  for (uint32_t r = 0; r < Rows; r++) {
    for (uint32_t o = 0; o < Outputs; o++) sums[r][o] = _mm512_setzero_ps();
  }
  uint32_t i = 0;
  for (; i + kLanes <= panel.length; i += kLanes) {
    __m512 values[Rows];
    for (uint32_t r = 0; r < Rows; r++) values[r] = _mm512_loadu_ps(x + r * panel.x_stride + i);
    for (uint32_t o = 0; o < Outputs; o++) {
      const __m512 w = Weight::load(weight + o * panel.weight_stride, i);
      for (uint32_t r = 0; r < Rows; r++) sums[r][o] = _mm512_fmadd_ps(values[r], w, sums[r][o]);
    }
  }
  if (i < panel.length) {
    const __mmask16 mask = static_cast<__mmask16>((1u << (panel.length - i)) - 1);
    __m512 values[Rows];
    for (uint32_t r = 0; r < Rows; r++) values[r] = F32::load(x + r * panel.x_stride, i, mask);
    for (uint32_t o = 0; o < Outputs; o++) {
      const __m512 w = Weight::load(weight + o * panel.weight_stride, i, mask);
      for (uint32_t r = 0; r < Rows; r++) sums[r][o] = _mm512_fmadd_ps(values[r], w, sums[r][o]);
    }
  }
  // Four sums at a time; the last group repeats one where their number is no multiple of four.
  constexpr uint32_t kSums = Rows * Outputs;
  const __m512* flat = &sums[0][0];
  alignas(16) float totals[(kSums + 3) / 4 * 4];
  for (uint32_t s = 0; s < kSums; s += 4) {
    const auto at = [&](uint32_t n) { return flat[n < kSums ? n : s]; };
    _mm_store_ps(totals + s, lane_sums(at(s), at(s + 1), at(s + 2), at(s + 3)));
  }
  float* out = panel.out + row * panel.out_stride + output;
  for (uint32_t r = 0; r < Rows; r++) {
    for (uint32_t o = 0; o < Outputs; o++) out[r * panel.out_stride + o] += totals[r * Outputs + o];
  }
}

template <uint32_t Outputs, class Weight>
void add_outputs(const LinearPanel& panel, uint32_t output) {
  uint32_t row = 0;
  for (; row + kRows <= panel.rows; row += kRows) add_tile<kRows, Outputs, Weight>(panel, row, output);
  switch (panel.rows - row) {
    case 3: return add_tile<3, Outputs, Weight>(panel, row, output);
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
  for (; i + kLanes <= count; i += kLanes) _mm512_storeu_ps(target + i, Weight::load(from, i));
  if (i == count) return;
  const __mmask16 mask = static_cast<__mmask16>((1u << (count - i)) - 1);
  _mm512_mask_storeu_ps(target + i, mask, Weight::load(from, i, mask));
}

void widen(const void* source, Dtype dtype, size_t count, float* target) {
  switch (dtype) {
    case Dtype::f32: return widen_of<F32>(source, count, target);
    case Dtype::bf16: return widen_of<Bf16>(source, count, target);
    case Dtype::f16: return widen_of<F16>(source, count, target);
  }
}

}  // namespace

const LinearKernels linear_avx512 = {kOutputs, kDirectRows, add_panel, widen};

}  // namespace pkv::cpu
