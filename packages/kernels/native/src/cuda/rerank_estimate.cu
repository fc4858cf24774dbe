// The first part of rerank where a KV head has several rotated queries: estimates of the candidates from their codes
// (candidate_rows.cuh). A lane takes its rows to all queries, which lie in shared memory, and a block takes a tile of
// candidates at a time, whose logits it joins for the log-sum-exp of each query.
#include <cmath>

#include "cuda/candidate_rows.cuh"
#include "cuda/launch.h"
#include "cuda/overlap.cuh"
#include "cuda/priorities.cuh"
#include "cuda/rerank_stages.h"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr uint32_t kThreads = tuning::estimate_threads;

struct EstimateArguments {
  Cache cache;
  Plan plan;
  VoteScratch scratch;
  Codec codec;
  Step step;
  uint32_t layer;
  uint32_t head_blocks;  // of each row and KV head
  float scale;           // 1 / sqrt(head_dim)
};

// How a block holds candidates: `keys` in a lane, `block_keys` at a time.
template <uint32_t kHeadDim, uint32_t kQueries>
struct Shape {
  static constexpr uint32_t head_dim = kHeadDim, queries = kQueries;
  static constexpr uint32_t keys = tuning::estimate_keys;
  static constexpr uint32_t lanes = kHeadDim / kLaneDims;  // of one candidate
  static constexpr uint32_t stride = kThreads / lanes;     // from one candidate of a lane to the next
  static constexpr uint32_t block_keys = stride * keys;
};

// What all candidates of a row and KV head meet, in shared memory.
template <class S>
struct Tables {
  // Rotated queries so that the lanes of a candidate read 16 bytes each side by side: [queries, kLaneDims / 4, lanes, 4].
  // Those beyond the real ones are zeros.
  float4 queries[S::queries * S::head_dim / 4];
  float values[kSigned];

  // rotated: [count, head_dim]. By the whole block, which has to meet afterwards.
  __device__ void load(const float* rotated, uint32_t count, const Codec& codec) {
    float* const to = reinterpret_cast<float*>(queries);
    for (uint32_t i = threadIdx.x; i < S::queries * S::head_dim; i += kThreads) {
      const uint32_t query = i / S::head_dim, j = i % S::head_dim;
      const uint32_t lane = j / kLaneDims, quad = j % kLaneDims / 4;
      to[query * S::head_dim + (quad * S::lanes + lane) * 4 + j % 4] = query < count ? rotated[i] : 0.0f;
    }
    load_values(codec, values);
  }
};

// Estimates of the candidates at `place` and every S::stride after it, up to `end`, where the last one stands in for what
// is missing. Every lane of a candidate gets all of them.
template <class S>
__device__ void estimate(const Tables<S>& tables, const Zone& zone, const uint32_t* candidates, uint32_t place, uint32_t end,
                         float (&estimates)[S::keys][S::queries]) {
  const uint32_t part = threadIdx.x % S::lanes;
  CandidatePart rows[S::keys];
#pragma unroll
  for (uint32_t i = 0; i < S::keys; ++i) {
    rows[i].template load<S::head_dim>(zone, candidates[min(place + i * S::stride, end - 1)]);
  }
#pragma unroll
  for (uint32_t i = 0; i < S::keys; ++i) {
#pragma unroll
    for (uint32_t h = 0; h < S::queries; ++h) estimates[i][h] = 0.0f;
  }
#pragma unroll
  for (uint32_t b = 0; b < kLaneSubspaces; ++b) {
    float products[S::keys][S::queries] = {};
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
      float4 key[S::keys];
#pragma unroll
      for (uint32_t i = 0; i < S::keys; ++i) {
        const uint32_t word = rows[i].code_word(b) >> 16 * half;
        key[i] = make_float4(tables.values[word & 15], tables.values[word >> 4 & 15], tables.values[word >> 8 & 15],
                             tables.values[word >> 12 & 15]);
      }
#pragma unroll
      for (uint32_t h = 0; h < S::queries; ++h) {
        const float4 q = tables.queries[h * (S::head_dim / 4) + (b * 2 + half) * S::lanes + part];
#pragma unroll
        for (uint32_t i = 0; i < S::keys; ++i) {
          products[i][h] += key[i].x * q.x;
          products[i][h] += key[i].y * q.y;
          products[i][h] += key[i].z * q.z;
          products[i][h] += key[i].w * q.w;
        }
      }
    }
#pragma unroll
    for (uint32_t i = 0; i < S::keys; ++i) {
      const float weight = rows[i].weight(b);
#pragma unroll
      for (uint32_t h = 0; h < S::queries; ++h) estimates[i][h] += weight * products[i][h];
    }
  }
#pragma unroll
  for (uint32_t i = 0; i < S::keys; ++i) {
#pragma unroll
    for (uint32_t h = 0; h < S::queries; ++h) estimates[i][h] = sum_over_parts<S::lanes>(estimates[i][h]);
  }
}

// What the warps of a block bring together. Two of them, so that one is read while the next is written.
template <class S>
struct WarpSums {
  LogSum of[2][kThreads / 32][S::queries];
};

// The logits of each query, joined over the candidates of a warp. Lane `part` of a candidate looks after the queries part,
// part + S::lanes, ...
template <class S>
__device__ void join_logits(const float (&estimates)[S::keys][S::queries], uint32_t place, uint32_t end, float scale,
                            LogSum (&warp_sums)[S::queries]) {
  constexpr uint32_t kOwnQueries = (S::queries + S::lanes - 1) / S::lanes;
  const uint32_t lane = threadIdx.x % 32, part = lane % S::lanes;
#pragma unroll
  for (uint32_t own = 0; own < kOwnQueries; ++own) {
    float logits[S::keys];
    float largest = -INFINITY;
#pragma unroll
    for (uint32_t i = 0; i < S::keys; ++i) {
      float estimate = NAN;
#pragma unroll
      for (uint32_t h = own * S::lanes; h < (own + 1) * S::lanes && h < S::queries; ++h) {
        if (h % S::lanes == part) estimate = estimates[i][h];
      }
      logits[i] = isfinite(estimate) && place + i * S::stride < end ? scale * estimate : -INFINITY;
      largest = fmaxf(largest, logits[i]);
    }
#pragma unroll
    for (uint32_t offset = S::lanes; offset < 32; offset *= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, offset));
    }
    float sum = 0.0f;
#pragma unroll
    for (uint32_t i = 0; i < S::keys; ++i) sum += logits[i] == -INFINITY ? 0.0f : expf(logits[i] - largest);
#pragma unroll
    for (uint32_t offset = S::lanes; offset < 32; offset *= 2) sum += __shfl_xor_sync(kAllLanes, sum, offset);
    const uint32_t query = own * S::lanes + part;
    if (lane < S::lanes && query < S::queries) warp_sums[query] = {largest, sum};
  }
}

// Grid: x = row and KV head, y = one of the blocks that take its tiles of candidates in turn.
template <class S>
__global__ void __launch_bounds__(kThreads) estimate_kernel(const __grid_constant__ EstimateArguments a) {
  static_assert(S::block_keys == VoteScratch::tile_candidates(S::head_dim), "a block takes a tile at a time");
  __shared__ Tables<S> tables;
  __shared__ WarpSums<S> warp_sums;
  const Cache& cache = a.cache;
  const Plan& plan = a.plan;
  const uint32_t row_head = blockIdx.x, block = blockIdx.y;
  const uint32_t row = row_head / cache.kv_heads, head = row_head % cache.kv_heads;
  const uint32_t queries = plan.rotated_queries;
  const StepRow step_row(cache, plan, a.layer, a.step, row);
  tables.load(plan.rotated + size_t{row_head} * queries * S::head_dim, queries, a.codec);
  wait_for_predecessor();
  let_successor_begin();
  const uint32_t count = candidates_of(plan, row_head), tiles = (count + S::block_keys - 1) / S::block_keys;
  if (!step_row.is_searched() || block >= tiles) return;
  __syncthreads();

  const Zone zone{cache, step_row.slot, a.layer, head};
  const uint32_t* const candidates = plan.candidates + size_t{row_head} * plan.max_candidates;
  float* const estimates = plan.estimates + size_t{row_head} * queries * plan.max_candidates;
  LogSum* const log_sums = a.scratch.log_sums + size_t{row_head} * queries * a.scratch.most_tiles;
  const uint32_t part = threadIdx.x % S::lanes, warp = threadIdx.x / 32;
  uint32_t turn = 0;
  for (uint32_t tile = block; tile < tiles; tile += a.head_blocks, turn ^= 1) {
    const uint32_t place = tile * S::block_keys + threadIdx.x / S::lanes;
    float own[S::keys][S::queries];
    estimate<S>(tables, zone, candidates, place, count, own);
#pragma unroll
    for (uint32_t i = 0; i < S::keys; ++i) {
      const uint32_t at = place + i * S::stride;
#pragma unroll
      for (uint32_t h = 0; h < S::queries; ++h) {
        if (h % S::lanes == part && h < queries && at < count) estimates[size_t{h} * plan.max_candidates + at] = own[i][h];
      }
    }
    join_logits<S>(own, place, count, a.scale, warp_sums.of[turn][warp]);
    __syncthreads();
    // Meanwhile the others write the other turn's sums; they come back to these after the next barrier.
    if (threadIdx.x < queries) {
      LogSum sum{-INFINITY, 0.0f};
      for (uint32_t w = 0; w < kThreads / 32; ++w) sum = joined(sum, warp_sums.of[turn][w][threadIdx.x]);
      log_sums[threadIdx.x * a.scratch.most_tiles + tile] = sum;
    }
  }
}

template <class S>
void launch_estimate(const Runtime& runtime, EstimateArguments& arguments) {
  const Plan& plan = arguments.plan;
  const uint32_t heads = arguments.step.row_count * arguments.cache.kv_heads;
  arguments.head_blocks = min(tuning::estimate_blocks_a_span * priority_spans(plan, arguments.step.row_count),
                              arguments.scratch.most_tiles);
  const bool overlaps = runtime.in_front == Verb::select;
  launch(runtime, "rerank: estimates", estimate_kernel<S>,
         {dim3(heads, arguments.head_blocks), kThreads, 0, 1, overlaps}, arguments);
}

template <uint32_t kHeadDim>
void launch_estimate(const Runtime& runtime, EstimateArguments& arguments) {
  const uint32_t queries = arguments.plan.rotated_queries;
  if (queries == 2) return launch_estimate<Shape<kHeadDim, 2>>(runtime, arguments);
  if (queries <= 4) return launch_estimate<Shape<kHeadDim, 4>>(runtime, arguments);
  return launch_estimate<Shape<kHeadDim, 8>>(runtime, arguments);
}

}  // namespace

void estimate_queries(const Runtime& runtime, const StageParams& params) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  EstimateArguments arguments{cache,        plan, VoteScratch(plan), Codec(cache), params.step,
                              params.layer, 0,    1.0f / std::sqrt(static_cast<float>(cache.head_dim))};
  switch (cache.head_dim) {
    case 64: return launch_estimate<64>(runtime, arguments);
    case 128: return launch_estimate<128>(runtime, arguments);
    default: return launch_estimate<256>(runtime, arguments);
  }
}

}  // namespace pkv::cuda
