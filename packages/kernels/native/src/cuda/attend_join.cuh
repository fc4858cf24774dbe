// How partial softmaxes become one: those of a block's warps, then those of a row's pieces, in a fixed order.
#pragma once
#include "cuda/attend_matrix.cuh"
#include "cuda/reduce.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {

// One warp's result, in the memory where its tiles were. Four numbers more a head put the lanes of a matrix into different
// banks.
template <class S>
struct WarpResult {
  float output[S::heads][S::head_dim + 4];
  float maximum[S::heads], sum[S::heads];

  static __device__ WarpResult& of(uint8_t* shared, uint32_t warp) {
    static_assert(sizeof(WarpResult) <= S::warp_bytes, "where the tiles were there is room");
    return *reinterpret_cast<WarpResult*>(shared + warp * S::warp_bytes);
  }
};

__device__ inline void add_share(float4& sum, float share, const float4& value) {
  sum.x += share * value.x, sum.y += share * value.y, sum.z += share * value.z, sum.w += share * value.w;
}

// A piece's result: [query_group, head_dim] output, [query_group] maximum, [query_group] sum. By the block, after a barrier.
template <class S>
__device__ void write_piece(uint8_t* shared, uint32_t query_group, float* piece) {
  for (uint32_t i = 4 * threadIdx.x; i < query_group * S::head_dim; i += 4 * S::threads) {
    const uint32_t g = i / S::head_dim, j = i % S::head_dim;
    float maximum = -INFINITY;
#pragma unroll
    for (uint32_t warp = 0; warp < S::warps; ++warp) maximum = fmaxf(maximum, WarpResult<S>::of(shared, warp).maximum[g]);
    float4 output = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    float sum = 0.0f;
#pragma unroll
    for (uint32_t warp = 0; warp < S::warps; ++warp) {
      const WarpResult<S>& result = WarpResult<S>::of(shared, warp);
      const float share = share_of_largest(result.maximum[g], maximum);
      add_share(output, share, *reinterpret_cast<const float4*>(&result.output[g][j]));
      sum += share * result.sum[g];
    }
    *reinterpret_cast<float4*>(piece + i) = output;
    if (j == 0) {
      piece[query_group * S::head_dim + g] = maximum;
      piece[query_group * (S::head_dim + 1) + g] = sum;
    }
  }
}

struct JoinMemory {
  float maxima[8][tuning::attend_most_pieces];  // then the shares of the pieces
  float sums[8][tuning::attend_most_pieces];
  float inverses[8];
};

// Joins the pieces of a row and KV head. partials: [pieces, piece_floats], written by other blocks and so not read through the
// first-level cache. out: [query_group, head_dim]; stats: [query_group, PKV_STATS_FIELDS].
template <class S>
__device__ void join_pieces(const float* partials, uint32_t piece_floats, uint32_t pieces, uint32_t query_group, bool dense,
                            JoinMemory& memory, float* out, float* stats) {
  constexpr uint32_t kBatch = 16;  // pieces whose outputs are under way together
  const uint32_t outputs = query_group * S::head_dim;
  float4 batch[kBatch];
  const auto load_batch = [&](uint32_t i, uint32_t first) {
#pragma unroll
    for (uint32_t u = 0; u < kBatch; ++u) {
      batch[u] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (i < outputs && first + u < pieces) {
        batch[u] = __ldcg(reinterpret_cast<const float4*>(partials + size_t{first + u} * piece_floats + i));
      }
    }
  };
  load_batch(4 * threadIdx.x, 0);  // comes while the shares are found

  const uint32_t lane = threadIdx.x % 32;
  for (uint32_t g = threadIdx.x / 32; g < query_group; g += S::warps) {
    float maximum = -INFINITY;
    for (uint32_t piece = lane; piece < pieces; piece += 32) {
      const float* const of_piece = partials + size_t{piece} * piece_floats + outputs + g;
      memory.maxima[g][piece] = __ldcg(of_piece);
      memory.sums[g][piece] = __ldcg(of_piece + query_group);
      maximum = fmaxf(maximum, memory.maxima[g][piece]);
    }
    maximum = warp_reduce(maximum, Largest());
    float sum = 0.0f;
    for (uint32_t piece = lane; piece < pieces; piece += 32) {
      const float share = share_of_largest(memory.maxima[g][piece], maximum);
      memory.maxima[g][piece] = share;
      sum += share * memory.sums[g][piece];
    }
    sum = warp_reduce(sum, Sum());
    if (lane != 0) continue;
    const bool nothing = maximum == -INFINITY;
    memory.inverses[g] = nothing ? 0.0f : 1.0f / sum;
    float* const of_head = stats + g * PKV_STATS_FIELDS;
    of_head[PKV_STATS_LSE_ATTENDED] = nothing ? -INFINITY : maximum + logf(sum);
    if (!dense) continue;
    of_head[PKV_STATS_LSE_UNSELECTED] = -INFINITY;
    of_head[PKV_STATS_LSE_OTHERS] = -INFINITY;
  }
  __syncthreads();
  for (uint32_t i = 4 * threadIdx.x; i < outputs; i += 4 * S::threads) {
    const uint32_t g = i / S::head_dim;
    float4 output = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (uint32_t first = 0; first < pieces; first += kBatch) {
      if (i >= 4 * S::threads || first > 0) load_batch(i, first);
#pragma unroll
      for (uint32_t u = 0; u < kBatch; ++u) {
        add_share(output, first + u < pieces ? memory.maxima[g][first + u] : 0.0f, batch[u]);
      }
    }
    const float inverse = memory.inverses[g];
    out[i] = output.x * inverse, out[i + 1] = output.y * inverse;
    out[i + 2] = output.z * inverse, out[i + 3] = output.w * inverse;
  }
}

}  // namespace pkv::cuda
