// rerank: estimates of the candidates from their codes (algorithm.md §3 step 5), then choose_top. Reads head_dim / 2 +
// head_dim / 8 bytes a candidate, in rows of as many bytes that lie anywhere in the retrieval zone.
// head_dim / 32 lanes share a candidate: each reads 16 bytes of codes and 4 of weights, and takes them to all rotated
// queries. The values of the code nibbles lie in 16 words of shared memory, in 16 banks.
#include "cuda/codec.cuh"
#include "cuda/launch.h"
#include "cuda/memory.cuh"
#include "cuda/rerank_choose.h"
#include "cuda/step_rows.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kThreads = tuning::estimate_threads;
constexpr uint32_t kKeys = tuning::estimate_lane_keys;  // candidates of a lane at a time
constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr uint32_t kLaneDims = 32, kLaneSubspaces = kLaneDims / PKV_SUBSPACE_DIM;
constexpr uint32_t kSigned = 2 * PKV_MAGNITUDE_LEVELS;

struct EstimateArguments {
  Cache cache;
  Plan plan;
  Codec codec;
  Step step;
  uint32_t layer;
  uint32_t head_blocks;  // blocks that share the candidates of one row and KV head
};

__device__ float decode_weight(uint32_t byte) {
  return byte == 0 ? 0.0f : __uint_as_float((byte + PKV_WEIGHT_EXPONENT_BIAS) << PKV_WEIGHT_SHIFT);
}

// Rotated queries in shared memory so that the lanes of a candidate read 16 bytes each side by side:
// [queries, kLaneDims / 4, lanes, 4] f32. Queries beyond the real ones are zeros.
template <uint32_t kHeadDim, uint32_t kQueries>
__device__ void load_queries(const float* rotated, uint32_t queries, float* shared) {
  constexpr uint32_t kLanes = kHeadDim / kLaneDims;
  for (uint32_t i = threadIdx.x; i < kQueries * kHeadDim; i += kThreads) {
    const uint32_t query = i / kHeadDim, j = i % kHeadDim;
    const uint32_t lane = j / kLaneDims, quad = j % kLaneDims / 4;
    shared[query * kHeadDim + (quad * kLanes + lane) * 4 + j % 4] = query < queries ? rotated[i] : 0.0f;
  }
}

// Grid: head_blocks for each row and KV head.
template <uint32_t kHeadDim, uint32_t kQueries>
__global__ void __launch_bounds__(kThreads) estimate_kernel(const __grid_constant__ EstimateArguments a) {
  constexpr uint32_t kLanes = kHeadDim / kLaneDims;  // of one candidate
  constexpr uint32_t kBlockKeys = kThreads / kLanes * kKeys;
  __shared__ float4 queries[kQueries * kHeadDim / 4];
  __shared__ float values[kSigned];
  const Cache& cache = a.cache;
  const Plan& plan = a.plan;
  const uint32_t row_head = blockIdx.x / a.head_blocks, block = blockIdx.x % a.head_blocks;
  const uint32_t row = row_head / cache.kv_heads, head = row_head % cache.kv_heads;
  const int32_t mode = row_mode(cache, a.layer, a.step, row);
  if (mode != PKV_MODE_VOTE && mode != PKV_MODE_SCAN) return;
  const uint32_t count = min(static_cast<uint32_t>(max(plan.candidate_count[row_head], 0)), plan.max_candidates);
  if (block * kBlockKeys >= count) return;

  load_queries<kHeadDim, kQueries>(plan.rotated + size_t{row_head} * plan.rotated_queries * kHeadDim, plan.rotated_queries,
                                   reinterpret_cast<float*>(queries));
  if (threadIdx.x < kSigned) {
    const float centre = a.codec.centres[threadIdx.x % PKV_MAGNITUDE_LEVELS];
    values[threadIdx.x] = (threadIdx.x & PKV_CODE_SIGN_BIT) != 0 ? centre : -centre;
  }
  __syncthreads();

  const int32_t slot = a.step.slot(row);
  const uint32_t part = threadIdx.x % kLanes;
  const uint32_t* const candidates = plan.candidates + size_t{row_head} * plan.max_candidates;
  float* const estimates = plan.estimates + size_t{row_head} * plan.rotated_queries * plan.max_candidates;
  for (uint32_t first = block * kBlockKeys; first < count; first += a.head_blocks * kBlockKeys) {
    const uint32_t place = first + threadIdx.x / kLanes;  // and every kThreads / kLanes after it
    uint4 codes[kKeys];
    uint32_t weights[kKeys];
#pragma unroll
    for (uint32_t i = 0; i < kKeys; ++i) {
      const uint32_t key = candidates[min(place + i * (kThreads / kLanes), count - 1)];
      uint8_t* const summary = cache.summary_of(page_of(cache, slot, key), a.layer, head);
      const uint32_t key_row = key % PKV_PAGE_TOKENS;
      codes[i] = load_once(reinterpret_cast<const uint4*>(cache.codes_of(summary) + key_row * (kHeadDim / 2)) + part);
      weights[i] = load_once(
          reinterpret_cast<const uint32_t*>(cache.weights_of(summary) + key_row * (kHeadDim / PKV_SUBSPACE_DIM)) + part);
    }
    float sums[kKeys][kQueries] = {};
#pragma unroll
    for (uint32_t b = 0; b < kLaneSubspaces; ++b) {
      float products[kKeys][kQueries] = {};
#pragma unroll
      for (uint32_t half = 0; half < 2; ++half) {
        float4 key[kKeys];
#pragma unroll
        for (uint32_t i = 0; i < kKeys; ++i) {
          const uint32_t word = (b == 0 ? codes[i].x : b == 1 ? codes[i].y : b == 2 ? codes[i].z : codes[i].w) >> 16 * half;
          key[i] = make_float4(values[word & 15], values[word >> 4 & 15], values[word >> 8 & 15], values[word >> 12 & 15]);
        }
#pragma unroll
        for (uint32_t h = 0; h < kQueries; ++h) {
          const float4 q = queries[h * (kHeadDim / 4) + (b * 2 + half) * kLanes + part];
#pragma unroll
          for (uint32_t i = 0; i < kKeys; ++i) {
            products[i][h] += key[i].x * q.x;
            products[i][h] += key[i].y * q.y;
            products[i][h] += key[i].z * q.z;
            products[i][h] += key[i].w * q.w;
          }
        }
      }
#pragma unroll
      for (uint32_t i = 0; i < kKeys; ++i) {
        const float weight = decode_weight(weights[i] >> 8 * b & 0xff);
#pragma unroll
        for (uint32_t h = 0; h < kQueries; ++h) sums[i][h] += weight * products[i][h];
      }
    }
#pragma unroll
    for (uint32_t i = 0; i < kKeys; ++i) {
      const uint32_t at = place + i * (kThreads / kLanes);
#pragma unroll
      for (uint32_t h = 0; h < kQueries; ++h) {
        float estimate = sums[i][h];
#pragma unroll
        for (uint32_t offset = 1; offset < kLanes; offset *= 2) estimate += __shfl_xor_sync(kAllLanes, estimate, offset);
        if (h % kLanes == part && h < plan.rotated_queries && at < count) {
          estimates[size_t{h} * plan.max_candidates + at] = estimate;
        }
      }
    }
  }
}

template <uint32_t kHeadDim, uint32_t kQueries>
void launch_estimate(const Runtime& runtime, EstimateArguments& arguments) {
  constexpr uint32_t kBlockKeys = kThreads / (kHeadDim / kLaneDims) * kKeys;
  const uint32_t heads = arguments.step.row_count * arguments.cache.kv_heads;
  const uint32_t most_blocks = (arguments.plan.max_candidates + kBlockKeys - 1) / kBlockKeys;
  arguments.head_blocks = min(tuning::estimate_blocks_a_multiprocessor * blocks_a_head(runtime, heads), most_blocks);
  launch(runtime, "rerank: estimates", estimate_kernel<kHeadDim, kQueries>, {heads * arguments.head_blocks, kThreads}, arguments);
}

template <uint32_t kHeadDim>
void launch_estimate(const Runtime& runtime, EstimateArguments& arguments) {
  const uint32_t queries = arguments.plan.rotated_queries;
  if (queries == 1) return launch_estimate<kHeadDim, 1>(runtime, arguments);
  if (queries == 2) return launch_estimate<kHeadDim, 2>(runtime, arguments);
  if (queries <= 4) return launch_estimate<kHeadDim, 4>(runtime, arguments);
  return launch_estimate<kHeadDim, 8>(runtime, arguments);
}

}  // namespace

void rerank(Runtime& runtime, const StageParams& params) {
  const Cache& cache = *params.plan->cache;
  EstimateArguments arguments{cache, *params.plan, Codec(cache), params.step, params.layer, 0};
  switch (cache.head_dim) {
    case 64: launch_estimate<64>(runtime, arguments); break;
    case 128: launch_estimate<128>(runtime, arguments); break;
    default: launch_estimate<256>(runtime, arguments); break;
  }
  choose_top(runtime, params);
}

}  // namespace pkv::cuda
