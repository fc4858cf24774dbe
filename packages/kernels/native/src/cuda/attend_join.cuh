// How partial softmaxes become one: those of a block's warps, then those of a row's pieces, in a fixed order.
#pragma once
#include "cuda/attend_matrix.cuh"

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

// Joins the pieces of a row and KV head, in their order. partials: [pieces, piece_floats], written by other blocks. memory:
// S::shared_bytes. out: [query_group, head_dim]; stats: [query_group, PKV_STATS_FIELDS]. By the block.
//
// One block does this while nothing else is left to do, and most of its time is the first way through its code. So the code is
// small: all pieces that fit are copied at once as they lie, and each thread finds the shares of the pieces for itself.
template <class S>
__device__ void join_pieces(const float* partials, uint32_t piece_floats, uint32_t pieces, uint32_t query_group, bool dense,
                            uint8_t* memory, float* out, float* stats) {
  constexpr uint32_t kPartFloats = AttendTile<S>::part_bytes / sizeof(float), kBlockFloats = kPartFloats * S::threads;
  constexpr uint32_t kVectors = (S::heads * S::head_dim + kBlockFloats - 1) / kBlockFloats;  // of a thread
  constexpr uint32_t kMostFloats = S::heads * (S::head_dim + 2);  // of a piece; a multiple of 4
  constexpr uint32_t kAtOnce = S::shared_bytes / (kMostFloats * sizeof(float));
  const float* const copies = reinterpret_cast<const float*>(memory);
  const uint32_t to_shared = static_cast<uint32_t>(__cvta_generic_to_shared(memory));
  const uint32_t outputs = query_group * S::head_dim;
  float4 output[kVectors];
  float maximum[kVectors], sum[kVectors];
#pragma unroll
  for (uint32_t v = 0; v < kVectors; ++v) {
    output[v] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    maximum[v] = -INFINITY;
    sum[v] = 0.0f;
  }
#pragma unroll 1
  for (uint32_t first = 0; first < pieces; first += kAtOnce) {
    if (first > 0) __syncthreads();  // those before are read
    const uint32_t count = min(pieces - first, kAtOnce);
    const uint64_t from = reinterpret_cast<uint64_t>(partials + size_t{first} * piece_floats);
    const uint32_t bytes = count * piece_floats * sizeof(float);
#pragma unroll 4
    for (uint32_t byte = threadIdx.x * AttendTile<S>::part_bytes; byte < bytes; byte += kBlockFloats * sizeof(float)) {
      copy_part(to_shared + byte, from + byte, AttendTile<S>::part_bytes);
    }
    commit_copies();
    await_copies<0>();
    __syncthreads();
#pragma unroll
    for (uint32_t v = 0; v < kVectors; ++v) {
      const uint32_t i = kPartFloats * threadIdx.x + v * kBlockFloats;
      if (i >= outputs) break;
      const float* const maxima = copies + outputs + i / S::head_dim;
      float largest = maximum[v];
#pragma unroll 4
      for (uint32_t piece = 0; piece < count; ++piece) largest = fmaxf(largest, maxima[piece * piece_floats]);
      const float rescale = share_of_largest(maximum[v], largest);
      maximum[v] = largest;
      sum[v] *= rescale;
      output[v].x *= rescale, output[v].y *= rescale, output[v].z *= rescale, output[v].w *= rescale;
#pragma unroll 4
      for (uint32_t piece = 0; piece < count; ++piece) {
        const float* const of_head = maxima + piece * piece_floats;
        const float share = share_of_largest(of_head[0], largest);
        sum[v] += share * of_head[query_group];
        add_share(output[v], share, *reinterpret_cast<const float4*>(copies + piece * piece_floats + i));
      }
    }
  }
#pragma unroll
  for (uint32_t v = 0; v < kVectors; ++v) {
    const uint32_t i = kPartFloats * threadIdx.x + v * kBlockFloats;
    if (i >= outputs) break;
    const bool nothing = maximum[v] == -INFINITY;
    const float inverse = nothing ? 0.0f : 1.0f / sum[v];
    out[i] = output[v].x * inverse, out[i + 1] = output[v].y * inverse;
    out[i + 2] = output[v].z * inverse, out[i + 3] = output[v].w * inverse;
    if (i % S::head_dim != 0) continue;
    float* const of_head = stats + i / S::head_dim * PKV_STATS_FIELDS;
    of_head[PKV_STATS_LSE_ATTENDED] = nothing ? -INFINITY : maximum[v] + logf(sum[v]);
    if (!dense) continue;
    of_head[PKV_STATS_LSE_UNSELECTED] = -INFINITY;
    of_head[PKV_STATS_LSE_OTHERS] = -INFINITY;
  }
}

}  // namespace pkv::cuda
