// The running softmax of a warp, token by token in f32: for K and V in f32, and for what the matrix units cannot do.
#pragma once
#include "cuda/attend_matrix.cuh"
#include "cuda/reduce.cuh"

namespace pkv::cuda {

// A lane has head_dim / 32 coordinates of the queries, of K and of V; logits are sums over the warp.
template <class S>
class PlainSoftmax {
  static constexpr uint32_t kDims = S::head_dim / 32;

 public:
  // source: [query_group, head_dim].
  __device__ void begin(const float* source, uint32_t query_group, float scale, uint32_t lane) {
#pragma unroll
    for (uint32_t g = 0; g < S::heads; ++g) {
#pragma unroll
      for (uint32_t i = 0; i < kDims; ++i) {
        queries_[g][i] = g < query_group ? source[g * S::head_dim + lane * kDims + i] * scale : 0.0f;
        output_[g][i] = 0.0f;
      }
      maximum_[g] = -INFINITY;
      sum_[g] = 0.0f;
    }
  }

  // Adds the first `tokens` tokens of a tile.
  __device__ void add(const AttendTile<S>& tile, uint32_t tokens, uint32_t lane) {
    for (uint32_t token = 0; token < tokens; ++token) {
      float k[kDims], v[kDims];
#pragma unroll
      for (uint32_t i = 0; i < kDims; ++i) {
        k[i] = widen(tile.element(token, lane * kDims + i), S::dtype, 0);
        v[i] = widen(tile.element(token, S::head_dim + lane * kDims + i), S::dtype, 0);
      }
#pragma unroll
      for (uint32_t g = 0; g < S::heads; ++g) {
        float logit = 0.0f;
#pragma unroll
        for (uint32_t i = 0; i < kDims; ++i) logit += queries_[g][i] * k[i];
        logit = warp_reduce(logit, Sum());
        if (!isfinite(logit)) continue;  // left out together with its V
        if (logit > maximum_[g]) {
          const float rescale = share_of_largest(maximum_[g], logit);
          maximum_[g] = logit;
          sum_[g] *= rescale;
#pragma unroll
          for (uint32_t i = 0; i < kDims; ++i) output_[g][i] *= rescale;
        }
        const float weight = expf(logit - maximum_[g]);
        sum_[g] += weight;
        if (weight == 0.0f) continue;  // 0 * V would not be 0 where V is not finite
#pragma unroll
        for (uint32_t i = 0; i < kDims; ++i) output_[g][i] += weight * v[i];
      }
    }
  }

  __device__ bool holds() const { return true; }

  // As MatrixSoftmax.
  template <class Write, class WriteSums>
  __device__ void end(uint32_t lane, const Write& write, const WriteSums& write_sums) {
#pragma unroll
    for (uint32_t g = 0; g < S::heads; ++g) {
      if (lane == 0) write_sums(g, maximum_[g], sum_[g]);
#pragma unroll
      for (uint32_t i = 0; i < kDims; ++i) write(g, lane * kDims + i, output_[g][i]);
    }
  }

 private:
  float queries_[S::heads][kDims];
  float output_[S::heads][kDims];
  float maximum_[S::heads], sum_[S::heads];
};

}  // namespace pkv::cuda
