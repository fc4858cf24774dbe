// The codes and weights of a candidate: head_dim / 2 + head_dim / 8 bytes, in rows of as many bytes that lie anywhere in the
// retrieval zone. head_dim / 32 lanes share a candidate: each reads 16 bytes of codes and 4 of weights. The values of the
// code nibbles lie in 16 words of shared memory, in 16 banks.
#pragma once
#include "cuda/codec.cuh"
#include "cuda/memory.cuh"
#include "cuda/step_rows.cuh"

namespace pkv::cuda {

constexpr uint32_t kLaneDims = 32, kLaneSubspaces = kLaneDims / PKV_SUBSPACE_DIM;
constexpr uint32_t kSigned = 2 * PKV_MAGNITUDE_LEVELS;

// What a code stands for: the centre of its level, with its sign. By the first threads of a block, which has to meet
// afterwards.
__device__ inline void load_values(const Codec& codec, float (&values)[kSigned]) {
  if (threadIdx.x >= kSigned) return;
  float centre = 0.0f;
#pragma unroll  // constants: threads that ask for different ones would wait for each other
  for (uint32_t level = 0; level < PKV_MAGNITUDE_LEVELS; ++level) {
    if (threadIdx.x % PKV_MAGNITUDE_LEVELS == level) centre = codec.centres[level];
  }
  values[threadIdx.x] = (threadIdx.x & PKV_CODE_SIGN_BIT) != 0 ? centre : -centre;
}

// The retrieval zone of one row and KV head.
struct Zone {
  const Cache& cache;
  int32_t slot;
  uint32_t layer, head;

  __device__ uint8_t* summary_of(uint32_t key) const { return cache.summary_of(page_of(cache, slot, key), layer, head); }
};

// A lane's part of a candidate.
struct CandidatePart {
  uint4 codes;  // a word a subspace, the first coordinate in the lowest four bits
  uint32_t weights;

  template <uint32_t kHeadDim>
  __device__ void load(const Zone& zone, uint32_t key) {
    load<kHeadDim>(zone, zone.summary_of(key), key);
  }
  // The same where it is known in which summary.
  template <uint32_t kHeadDim>
  __device__ void load(const Zone& zone, uint8_t* summary, uint32_t key) {
    const uint32_t part = threadIdx.x % (kHeadDim / kLaneDims), row = key % PKV_PAGE_TOKENS;
    codes = load_once(reinterpret_cast<const uint4*>(zone.cache.codes_of(summary) + row * (kHeadDim / 2)) + part);
    weights = load_once(
        reinterpret_cast<const uint32_t*>(zone.cache.weights_of(summary) + row * (kHeadDim / PKV_SUBSPACE_DIM)) + part);
  }
  __device__ uint32_t code_word(uint32_t b) const { return b == 0 ? codes.x : b == 1 ? codes.y : b == 2 ? codes.z : codes.w; }
  __device__ float weight(uint32_t b) const {
    const uint32_t byte = weights >> 8 * b & 0xff;
    return byte == 0 ? 0.0f : __uint_as_float((byte + PKV_WEIGHT_EXPONENT_BIAS) << PKV_WEIGHT_SHIFT);
  }
};

// `sum` over the lanes of a candidate, for each of them.
template <uint32_t kLanes>
__device__ float sum_over_parts(float sum) {
#pragma unroll
  for (uint32_t offset = 1; offset < kLanes; offset *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  return sum;
}

}  // namespace pkv::cuda
