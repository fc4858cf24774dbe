// encode: key summaries of one page, all layers and KV heads (docs/mathematics.md §2). Exact: every operation rounds once and
// in the specified order, so that the bytes equal the reference's (the file is built with -fmad=false). Costs head_dim
// elements read and 3 * head_dim / 4 bytes written a key, and some 70 operations a coordinate, which decide.
//
// A lane holds one subspace of one key: butterflies and sums over up to 8 coordinates stay in its registers, those over
// more are exchanges between the lanes of the key.
#include "cuda/alignment.h"
#include "cuda/codec.cuh"
#include "cuda/kv_element.cuh"
#include "cuda/launch.h"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kThreads = tuning::encode_threads;
constexpr uint32_t kBlockKeys = tuning::encode_block_keys;
constexpr uint32_t kBlocksAHead = PKV_PAGE_TOKENS / kBlockKeys;
constexpr uint32_t kSub = PKV_SUBSPACE_DIM;
constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr uint32_t kSigns = 0x88888888u;  // of a code word
static_assert(PKV_CODE_SIGN_BIT == 8, "the highest bit of a nibble");
static_assert(kSub == 8 && PKV_MAGNITUDE_LEVELS == 8, "the layout of a code word and the search for a level");
static_assert(PKV_PAGE_TOKENS % kBlockKeys == 0 && kBlockKeys % kVectorBytes == 0, "no ragged tails");

struct EncodeArguments {
  Cache cache;
  Codec codec;
  uint32_t slot, page_id;
  uint32_t first;  // row of the ring that holds the page's first token
  float scale;     // of the rotation
};

// Sum of the squares of a key, halves added pairwise, in every one of its lanes.
template <uint32_t kLanes>
__device__ float sum_of_squares(const float (&x)[kSub]) {
  float a[kSub];
#pragma unroll
  for (uint32_t j = 0; j < kSub; ++j) a[j] = x[j] * x[j];
  const uint32_t lane = threadIdx.x;
  uint32_t distance = kLanes / 2;
  // Of a pair of lanes each adds one half of the coordinates, so that bit 2, then 1, then 0 of j moves into the lane.
#pragma unroll
  for (uint32_t count = kSub / 2; count >= 1; count /= 2, distance /= 2) {
    const bool upper = (lane & distance) != 0;
#pragma unroll
    for (uint32_t j = 0; j < count; ++j) {
      const float mine = upper ? a[j + count] : a[j];
      const float yours = upper ? a[j] : a[j + count];
      a[j] = mine + __shfl_xor_sync(kAllLanes, yours, distance);
    }
  }
  float sum = a[0];
#pragma unroll
  for (; distance >= 1; distance /= 2) sum = sum + __shfl_xor_sync(kAllLanes, sum, distance);
#pragma unroll
  // What is left are the coordinates of one subspace, in the lanes where they moved.
  for (uint32_t apart = kLanes / 2; apart >= kLanes / kSub; apart /= 2) {
    sum = sum + __shfl_xor_sync(kAllLanes, sum, apart);
  }
  return sum;
}

// The butterflies of the rotation, of distances 1, 2, .. in coordinates; without its last factor.
template <uint32_t kLanes>
__device__ void hadamard(float (&x)[kSub]) {
#pragma unroll
  for (uint32_t half = 1; half < kSub; half *= 2) {
#pragma unroll
    for (uint32_t j = 0; j < kSub; ++j) {
      if ((j & half) != 0) continue;
      const float a = x[j], b = x[j + half];
      x[j] = a + b;
      x[j + half] = a - b;
    }
  }
#pragma unroll
  for (uint32_t distance = 1; distance < kLanes; distance *= 2) {
    const float sign = (threadIdx.x & distance) != 0 ? -1.0f : 1.0f;
#pragma unroll
    for (uint32_t j = 0; j < kSub; ++j) {
      const float other = __shfl_xor_sync(kAllLanes, x[j], distance);
      x[j] = __fmaf_rn(x[j], sign, other);  // a product with 1 or -1 is exact: this rounds once, as the sum does
    }
  }
}

// Sum of eight terms, halves added pairwise.
__device__ float sum_of_eight(const float (&a)[kSub]) {
  return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}

// The number of thresholds that are at most u; 0 when u is NaN.
__device__ uint32_t level_of(const Codec& codec, float u) {
  const float* const t = codec.thresholds;
  const bool fours = u >= t[3];
  const bool twos = u >= (fours ? t[5] : t[1]);
  const bool ones = u >= (fours ? (twos ? t[6] : t[4]) : (twos ? t[2] : t[0]));
  return (fours ? 4u : 0u) | (twos ? 2u : 0u) | (ones ? 1u : 0u);
}

// The byte of a weight that is not negative: an unsigned float of 5 and 3 bits.
__device__ uint32_t weight_byte(float weight) {
  const int32_t rounded =
      static_cast<int32_t>((__float_as_uint(weight) + (1u << (PKV_WEIGHT_SHIFT - 1))) >> PKV_WEIGHT_SHIFT);
  return static_cast<uint32_t>(min(max(rounded - PKV_WEIGHT_EXPONENT_BIAS, 0), 255));
}

struct Summary {
  uint32_t id, code, weight;
};

// One subspace: x is rotated, `rho` is the norm of the key, `centres` are those of the codec.
__device__ Summary encode_subspace(const Codec& codec, const float* centres, const float (&x)[kSub], float rho) {
  float terms[kSub];
#pragma unroll
  for (uint32_t j = 0; j < kSub; ++j) terms[j] = x[j] * x[j];
  const float radius = __fsqrt_rn(sum_of_eight(terms));
  Summary summary{};
#pragma unroll
  for (uint32_t j = 0; j < kSub; ++j) {
    const float u = __fdiv_rn(fabsf(x[j]), radius);
    const uint32_t level = level_of(codec, u);
    terms[j] = centres[level] * u;
    const uint32_t sign = x[j] >= 0.0f ? 1 : 0;
    summary.id |= sign << j;
    summary.code |= (level | sign << PKV_MAGNITUDE_BITS) << (4 * j);
  }
  if (radius > 0.0f) {
    summary.weight = weight_byte(__fdiv_rn(rho * radius, sum_of_eight(terms)));
  } else {
    summary.code &= kSigns;  // without energy there are no magnitudes
  }
  return summary;
}

// A block encodes kBlockKeys keys of one layer and KV head.
template <uint32_t kHeadDim>
__global__ void __launch_bounds__(kThreads) encode_kernel(const __grid_constant__ EncodeArguments a) {
  constexpr uint32_t kLanes = kHeadDim / kSub;
  constexpr uint32_t kKeysAtOnce = kThreads / kLanes;
  static_assert(kBlockKeys % kKeysAtOnce == 0, "no ragged tails");
  // The plane of ids is subspace-major: gathered here, it is written in vectors. The padding spreads the rows over
  // banks.
  __shared__ __align__(kVectorBytes) uint8_t ids[kLanes][kBlockKeys + kVectorBytes];
  __shared__ float centres[PKV_MAGNITUDE_LEVELS];

  const Cache& cache = a.cache;
  const uint32_t layer_head = blockIdx.x / kBlocksAHead;
  const uint32_t layer = layer_head / cache.kv_heads, head = layer_head % cache.kv_heads;
  const uint32_t begin = blockIdx.x % kBlocksAHead * kBlockKeys;
  const uint32_t subspace = threadIdx.x % kLanes;
  const uint8_t* const ring = cache.window_of(a.slot, layer, head) + cache.sink_tokens * cache.record_bytes();
  uint8_t* const summaries = cache.summary_of(a.page_id, layer, head);
  uint32_t* const codes = reinterpret_cast<uint32_t*>(cache.codes_of(summaries));
  uint8_t* const weights = cache.weights_of(summaries);

  float centre[kSub], balance[kSub];
  const float* const calibration = cache.calibration + static_cast<size_t>(layer_head) * 2 * kHeadDim + subspace * kSub;
  bool balanced = false;
#pragma unroll
  for (uint32_t j = 0; j < kSub; ++j) {
    centre[j] = calibration[j];
    balance[j] = calibration[kHeadDim + j];
    balanced |= balance[j] != 1.0f;
  }
  balanced = __any_sync(kAllLanes, balanced);  // where every D is 1 the divisions change nothing
  uint32_t sign_bits[kSub];
#pragma unroll
  for (uint32_t j = 0; j < kSub; ++j) sign_bits[j] = a.codec.is_negative(subspace * kSub + j) ? 0x80000000u : 0;
  if (threadIdx.x < PKV_MAGNITUDE_LEVELS) centres[threadIdx.x] = a.codec.centres[threadIdx.x];
  __syncthreads();

  for (uint32_t local = threadIdx.x / kLanes; local < kBlockKeys; local += kKeysAtOnce) {
    const uint32_t token = begin + local;
    const uint32_t row = a.first + token < cache.ring_tokens ? a.first + token : a.first + token - cache.ring_tokens;
    float x[kSub];
    widen_eight(ring + row * cache.record_bytes(), cache.kv_dtype, subspace, x);
#pragma unroll
    for (uint32_t j = 0; j < kSub; ++j) x[j] = x[j] - centre[j];
    if (balanced) {
#pragma unroll
      for (uint32_t j = 0; j < kSub; ++j) x[j] = __fdiv_rn(x[j], balance[j]);
    }
    const float rho = __fsqrt_rn(sum_of_squares<kLanes>(x));
    const bool valid = rho > 0.0f && rho < INFINITY;
#pragma unroll
    for (uint32_t j = 0; j < kSub; ++j) x[j] = __uint_as_float(__float_as_uint(__fdiv_rn(x[j], rho)) ^ sign_bits[j]);
    hadamard<kLanes>(x);
#pragma unroll
    for (uint32_t j = 0; j < kSub; ++j) x[j] = x[j] * a.scale;
    const Summary summary = encode_subspace(a.codec, centres, x, rho);
    ids[subspace][local] = static_cast<uint8_t>(valid ? summary.id : 0);
    codes[static_cast<size_t>(token) * kLanes + subspace] = valid ? summary.code : 0;
    weights[static_cast<size_t>(token) * kLanes + subspace] = static_cast<uint8_t>(valid ? summary.weight : 0);
  }
  __syncthreads();
  constexpr uint32_t kPartsOfPlane = kBlockKeys / kVectorBytes;
  for (uint32_t i = threadIdx.x; i < kLanes * kPartsOfPlane; i += kThreads) {
    const uint32_t plane = i / kPartsOfPlane, part = i % kPartsOfPlane;
    uint8_t* const to = summaries + static_cast<size_t>(plane) * PKV_PAGE_TOKENS + begin + part * kVectorBytes;
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(&ids[plane][part * kVectorBytes]);
  }
}

}  // namespace

void encode(Runtime& runtime, const PageParams& params) {
  const Cache& cache = *params.cache;
  require_vectors(cache);
  const uint32_t first = static_cast<uint32_t>(uint64_t{params.page_index} * PKV_PAGE_TOKENS % cache.ring_tokens);
  const EncodeArguments arguments{cache,          Codec(cache), params.slot,
                                  params.page_id, first,        rotation_scale(cache.head_dim)};
  const auto kernel = cache.head_dim == 64    ? encode_kernel<64>
                      : cache.head_dim == 128 ? encode_kernel<128>
                                              : encode_kernel<256>;
  launch(runtime, "encode", kernel, {dim3(cache.layers * cache.kv_heads * kBlocksAHead), dim3(kThreads)}, arguments);
}

}  // namespace pkv::cuda
