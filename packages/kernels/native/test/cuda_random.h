// Random numbers with a seed, and the element types that they are stored in.
#pragma once
#include <cmath>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "cpu/kv_convert.h"
#include "cpu/kv_narrow.h"
#include "pkv_spec.h"

namespace conformance {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  uint32_t below(uint32_t count) { return static_cast<uint32_t>(engine_() % count); }
  float uniform() { return static_cast<float>(engine_() >> 40) * 0x1p-24f; }
  float normal() { return std::sqrt(-2 * std::log(1 - uniform())) * std::cos(6.2831853f * uniform()); }
  std::vector<float> normals(size_t count, float spread = 1) {
    std::vector<float> values(count);
    for (float& value : values) value = spread * normal();
    return values;
  }
  std::vector<uint32_t> permutation(uint32_t count) {
    std::vector<uint32_t> order(count);
    for (uint32_t i = 0; i < count; ++i) order[i] = i;
    for (uint32_t i = count; i > 1; --i) std::swap(order[i - 1], order[below(i)]);
    return order;
  }

 private:
  std::mt19937_64 engine_;
};

inline size_t element_bytes(uint32_t dtype) { return dtype == PKV_DTYPE_F32 ? 4 : 2; }
inline const char* dtype_name(uint32_t dtype) {
  return dtype == PKV_DTYPE_F32 ? "f32" : dtype == PKV_DTYPE_BF16 ? "bf16" : "f16";
}

// Element `index` of an array of `dtype`.
inline void store(uint32_t dtype, uint8_t* to, size_t index, float value) {
  if (dtype == PKV_DTYPE_F32) {
    std::memcpy(to + 4 * index, &value, 4);
    return;
  }
  const uint16_t bits = dtype == PKV_DTYPE_BF16 ? pkv::cpu::f32_to_bf16(value) : pkv::cpu::f32_to_f16(value);
  std::memcpy(to + 2 * index, &bits, 2);
}
inline float load(uint32_t dtype, const uint8_t* from, size_t index) {
  float value;
  if (dtype == PKV_DTYPE_F32) {
    std::memcpy(&value, from + 4 * index, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, from + 2 * index, 2);
  return dtype == PKV_DTYPE_BF16 ? pkv::cpu::bf16_to_f32(bits) : pkv::cpu::f16_to_f32(bits);
}

inline std::vector<uint8_t> stored(uint32_t dtype, const std::vector<float>& values) {
  std::vector<uint8_t> bytes(values.size() * element_bytes(dtype));
  for (size_t i = 0; i < values.size(); ++i) store(dtype, bytes.data(), i, values[i]);
  return bytes;
}

}  // namespace conformance
