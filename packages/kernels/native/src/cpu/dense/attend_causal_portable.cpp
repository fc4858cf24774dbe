// attend_causal in plain C++: strips of 16 query rows, in loops along the strip that
// the compiler turns into vectors of any width.
#include <cmath>
#include <limits>

#include "cpu/dense/attend_causal_kernels.h"
#include "cpu/kv_convert.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kLanes = 32;
constexpr uint32_t kTogether = 4;

bool widen(const void* source, Dtype dtype, uint32_t head_dim, float* target) {
  const auto* floats = static_cast<const float*>(source);
  const auto* halves = static_cast<const uint16_t*>(source);
  bool finite = true;
  for (uint32_t c = 0; c < head_dim; c++) {
    target[c] = dtype == Dtype::f32 ? floats[c] : dtype == Dtype::f16 ? f16_to_f32(halves[c]) : bf16_to_f32(halves[c]);
    finite = finite && std::isfinite(target[c]);
  }
  return finite;
}

// sums[l] += a[0] * rows[0][l] + .. + a[3] * rows[3][l]. Four products for every load and store of a sum.
void add_products(const float (&a)[kTogether], const float* rows, float (&sums)[kLanes]) {
  for (uint32_t l = 0; l < kLanes; l++) {
    sums[l] += (a[0] * rows[l] + a[1] * rows[kLanes + l]) + (a[2] * rows[2 * kLanes + l] + a[3] * rows[3 * kLanes + l]);
  }
}

void logits(const float* queries, const float* keys, size_t key_stride, uint32_t key_count, uint32_t head_dim,
            float* out) {
  for (uint32_t key = 0; key < key_count; key++) {
    const float* k = keys + key * key_stride;
    float sums[kLanes] = {};
    for (uint32_t c = 0; c < head_dim; c += kTogether) {
      add_products({k[c], k[c + 1], k[c + 2], k[c + 3]}, queries + c * kLanes, sums);
    }
    for (uint32_t l = 0; l < kLanes; l++) out[key * kLanes + l] = sums[l];
  }
}

void weigh(float* weights, uint32_t key_count, const int32_t* visible, const CausalState& state) {
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  for (uint32_t l = 0; l < kLanes; l++) {
    const uint32_t last = visible == nullptr ? key_count : static_cast<uint32_t>(visible[l]);
    const float older = state.maximum[l];
    float maximum = older;
    for (uint32_t key = 0; key < last; key++) {
      const float logit = weights[key * kLanes + l];
      if (std::isfinite(logit) && logit > maximum) maximum = logit;
    }
    float total = 0;
    for (uint32_t key = 0; key < key_count; key++) {
      float& weight = weights[key * kLanes + l];
      weight = key < last && std::isfinite(weight) ? std::exp(weight - maximum) : 0.0f;
      total += weight;
    }
    state.kept[l] = older == kNothing ? 0.0f : std::exp(older - maximum);
    state.maximum[l] = maximum;
    state.total[l] = state.total[l] * state.kept[l] + total;
  }
}

void add_values(const float* weights, const float* values, size_t value_stride, uint32_t key_count, uint32_t head_dim,
                const float* kept, float* sums) {
  for (uint32_t c = 0; c < head_dim; c++) {
    float added[kLanes] = {};
    for (uint32_t key = 0; key < key_count; key += kTogether) {
      const float* v = values + key * value_stride + c;
      add_products({v[0], v[value_stride], v[2 * value_stride], v[3 * value_stride]}, weights + key * kLanes, added);
    }
    float* sum = sums + c * kLanes;
    for (uint32_t l = 0; l < kLanes; l++) sum[l] = sum[l] * kept[l] + added[l];
  }
}

}  // namespace

const AttendCausalKernels attend_causal_portable = {kLanes, widen, logits, weigh, add_values};

}  // namespace pkv::cpu
