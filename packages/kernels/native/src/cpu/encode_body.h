// Key summaries of as many keys as a register has lanes (docs/mathematics.md §2): one key a lane, so that every lane does the
// specified operations in the specified order, one rounding each, without fused multiply-add. Included by the file of each
// instruction set, whose flags decide how wide a register is.
#include <cstring>

#include "cpu/encode_kernels.h"
#include "cpu/kv_convert.h"

namespace pkv::cpu {
namespace {

#if defined(__AVX512F__)
constexpr uint32_t kLanes = 16;
#elif defined(__AVX2__)
constexpr uint32_t kLanes = 8;
#else
constexpr uint32_t kLanes = 4;
#endif
static_assert(kEncodeKeys % kLanes == 0, "a block is whole registers");

using Floats __attribute__((vector_size(4 * kLanes))) = float;
using Ints __attribute__((vector_size(4 * kLanes))) = int32_t;  // a cast between the two keeps the bits

constexpr uint32_t kSub = PKV_SUBSPACE_DIM;
constexpr float kInfinity = __builtin_inff();

inline Floats square_root(Floats x) {
  for (uint32_t lane = 0; lane < kLanes; ++lane) x[lane] = __builtin_sqrtf(x[lane]);
  return x;
}

// Lane l of x[j] = coordinate j of keys[l], in f32.
template <uint32_t kHeadDim>
inline void load_keys(const uint8_t* const* keys, uint32_t dtype, Floats* x) {
  float transposed[kHeadDim][kLanes];
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    float wide[kHeadDim];
    if (dtype == PKV_DTYPE_F32) {
      memcpy(wide, keys[lane], sizeof wide);
    } else {
      uint16_t halves[kHeadDim];
      memcpy(halves, keys[lane], sizeof halves);
      if (dtype == PKV_DTYPE_BF16) {
        for (uint32_t j = 0; j < kHeadDim; ++j) wide[j] = bf16_to_f32(halves[j]);
      } else {
        for (uint32_t j = 0; j < kHeadDim; ++j) wide[j] = f16_to_f32(halves[j]);
      }
    }
    for (uint32_t j = 0; j < kHeadDim; ++j) transposed[j][lane] = wide[j];
  }
  memcpy(x, transposed, sizeof transposed);
}

// Leaves in a[0] the sum of a[0..kCount), halves added pairwise.
template <uint32_t kCount>
inline void tree_sum(Floats* a) {
  for (uint32_t half = kCount / 2; half >= 1; half /= 2) {
    for (uint32_t i = 0; i < half; ++i) a[i] = a[i] + a[i + half];
  }
}

// kLevels levels of butterflies, of distances kHalf, 2 kHalf, ..: those that share 2^kLevels coordinates pass through
// registers together, in the same operations as level after level.
template <uint32_t kHeadDim, uint32_t kHalf, uint32_t kLevels>
inline void butterflies(Floats* x) {
  constexpr uint32_t kCount = 1u << kLevels;
  for (uint32_t start = 0; start < kHeadDim; start += kCount * kHalf) {
    for (uint32_t first = start; first < start + kHalf; ++first) {
      Floats a[kCount];
      for (uint32_t i = 0; i < kCount; ++i) a[i] = x[first + i * kHalf];
      for (uint32_t half = 1; half < kCount; half *= 2) {
        for (uint32_t i = 0; i < kCount; ++i) {
          if ((i & half) != 0) continue;
          const Floats left = a[i], right = a[i + half];
          a[i] = left + right;
          a[i + half] = left - right;
        }
      }
      for (uint32_t i = 0; i < kCount; ++i) x[first + i * kHalf] = a[i];
    }
  }
}

template <uint32_t kHeadDim>
inline void hadamard(Floats* x) {
  butterflies<kHeadDim, 1, 3>(x);
  butterflies<kHeadDim, 8, 3>(x);
  if constexpr (kHeadDim == 128) butterflies<kHeadDim, 64, 1>(x);
  if constexpr (kHeadDim == 256) butterflies<kHeadDim, 64, 2>(x);
}

// The weight bytes of weights that are not negative (weight-byte: an unsigned float of 5 and 3 bits).
inline Ints weight_bytes(Floats weights) {
  const Ints bits = (Ints)weights;
  const Ints unit = ((bits + (1 << (PKV_WEIGHT_SHIFT - 1))) >> PKV_WEIGHT_SHIFT) - PKV_WEIGHT_EXPONENT_BIAS;
  const Ints at_least_zero = unit < 0 ? Ints{} : unit;
  return at_least_zero > 255 ? Ints{} + 255 : at_least_zero;
}

// Subspace b of the keys from `first` on; x, [kSub], is rotated but not yet scaled.
template <uint32_t kHeadDim>
inline void encode_subspace(const EncodeBlock& block, uint32_t first, uint32_t b, const Floats* x, Floats rho, Ints valid) {
  Floats scaled[kSub], terms[kSub];
  for (uint32_t j = 0; j < kSub; ++j) {
    scaled[j] = x[j] * block.scale;
    terms[j] = scaled[j] * scaled[j];
  }
  tree_sum<kSub>(terms);
  const Floats radius = square_root(terms[0]);
  const Ints has_energy = radius > 0.0f;
  Ints id = {}, code = {};
  for (uint32_t j = 0; j < kSub; ++j) {
    const Floats magnitude = (Floats)((Ints)scaled[j] & 0x7fffffff);
    // 0 in a subspace without energy, also where only the squares are too small for an f32.
    const Floats u = (Floats)((Ints)(magnitude / radius) & has_energy);
    Ints level = {};
    Floats centre = Floats{} + block.centres[0];
    for (uint32_t i = 0; i + 1 < PKV_MAGNITUDE_LEVELS; ++i) {
      const Ints above = u >= block.thresholds[i];  // all bits, or none
      level -= above;
      centre = above ? Floats{} + block.centres[i + 1] : centre;
    }
    const Ints sign = scaled[j] >= 0.0f ? Ints{} + 1 : Ints{};
    terms[j] = centre * u;
    id |= sign << static_cast<int32_t>(j);
    code |= (level | sign << PKV_MAGNITUDE_BITS) << static_cast<int32_t>(4 * j);
  }
  tree_sum<kSub>(terms);
  const Ints weight = weight_bytes(rho * radius / terms[0]) & valid & has_energy;
  id &= valid;
  code &= valid;
  constexpr uint32_t kSubspaces = kHeadDim / kSub;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    const size_t key = first + lane;
    const int32_t word = code[lane];
    memcpy(block.codes + key * (kHeadDim / 2) + size_t{b} * 4, &word, sizeof word);
    block.ids[size_t{b} * PKV_PAGE_TOKENS + key] = static_cast<uint8_t>(id[lane]);
    block.weights[key * kSubspaces + b] = static_cast<uint8_t>(weight[lane]);
  }
}

template <uint32_t kHeadDim>
void encode_keys(const EncodeBlock& block, uint32_t first) {
  constexpr uint32_t kHalf = kHeadDim / 2;
  Floats x[kHeadDim], squares[kHalf];
  load_keys<kHeadDim>(block.keys + first, block.dtype, x);
  for (uint32_t j = 0; j < kHeadDim; ++j) x[j] = (x[j] - block.centre[j]) / block.balance[j];
  for (uint32_t j = 0; j < kHalf; ++j) squares[j] = x[j] * x[j] + x[j + kHalf] * x[j + kHalf];
  tree_sum<kHalf>(squares);
  const Floats rho = square_root(squares[0]);
  // What the lanes of invalid keys compute from here on is masked away at the end.
  const Ints valid = (rho > 0.0f) & (rho < kInfinity);
  for (uint32_t j = 0; j < kHeadDim; ++j) x[j] = block.signs[j] * (x[j] / rho);
  hadamard<kHeadDim>(x);
  for (uint32_t b = 0; b < kHeadDim / kSub; ++b) encode_subspace<kHeadDim>(block, first, b, x + b * kSub, rho, valid);
}

template <uint32_t kHeadDim>
void encode_block(const EncodeBlock& block) {
  for (uint32_t first = 0; first < kEncodeKeys; first += kLanes) encode_keys<kHeadDim>(block, first);
}

}  // namespace
}  // namespace pkv::cpu
