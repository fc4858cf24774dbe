// The innermost loop of encode, once per instruction set. No std:: and no other header of ours: see cpu.h.
#pragma once
#include <cstdint>

#include "pkv_spec.h"

namespace pkv::cpu {

// Keys that are encoded side by side, one a vector lane.
constexpr uint32_t kEncodeKeys = 16;

struct EncodeBlock {
  const uint8_t* keys[kEncodeKeys];  // each [head_dim] dtype
  uint32_t dtype;                    // PKV_DTYPE_*
  const float* centre;               // mu, [head_dim]
  const float* balance;              // D, [head_dim]
  const float* signs;                // [head_dim]
  const float* centres;              // [PKV_MAGNITUDE_LEVELS]
  const float* thresholds;           // [PKV_MAGNITUDE_LEVELS - 1]
  float scale;                       // 1 / sqrt(head_dim)
  uint8_t* ids;                      // of the first key, in the plane [subspaces, PKV_PAGE_TOKENS]
  uint8_t* codes;                    // [kEncodeKeys, head_dim / 2]
  uint8_t* weights;                  // [kEncodeKeys, subspaces]
};

struct EncodeKernels {
  void (*encode_64)(const EncodeBlock&);
  void (*encode_128)(const EncodeBlock&);
  void (*encode_256)(const EncodeBlock&);
};

extern const EncodeKernels encode_portable;
extern const EncodeKernels encode_avx2;
extern const EncodeKernels encode_avx512;

}  // namespace pkv::cpu
