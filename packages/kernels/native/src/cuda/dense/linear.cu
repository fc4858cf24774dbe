// linear: out = x · weightᵀ (+ bias) (+ out), sums in f32.
// Few rows are limited by memory: a warp makes whole outputs, the weights are read once for every eight rows, and a row
// does not depend on the rows beside it. Many rows are limited by arithmetic: blocks of 64 by 64 outputs share tiles of
// both operands, widened to f32 in shared memory.
#include "cuda/alignment.h"
#include "cuda/kv_element.cuh"
#include "cuda/launch.h"
#include "cuda/reduce.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kWarpLanes = 32;
constexpr uint32_t kFewThreads = tuning::linear_few_threads;
constexpr uint32_t kMostRowsAtOnce = 8;

// What the sum of an output is added to: nothing, the bias, what out holds, or both.
__device__ float begin_of(const LinearParams& p, const float* out, uint32_t output) {
  return (p.accumulate ? *out : 0.0f) + (p.bias == nullptr ? 0.0f : p.bias[output]);
}

// kVector consecutive elements of the inner dimension, from element `i` on.
template <uint32_t kVector>
__device__ void load(const void* source, Dtype dtype, size_t i, float (&to)[kVector]) {
  if constexpr (kVector == 8) {
    widen_eight(source, dtype, i / 8, to);
  } else {
    to[0] = widen(source, dtype, i);
  }
}

// A warp makes kOutputs outputs of kRows rows.
template <uint32_t kRows, uint32_t kOutputs, uint32_t kVector>
__global__ void __launch_bounds__(kFewThreads) linear_few(LinearParams p) {
  const uint32_t lane = threadIdx.x % kWarpLanes;
  const uint32_t first_output = (blockIdx.x * (kFewThreads / kWarpLanes) + threadIdx.x / kWarpLanes) * kOutputs;
  const uint32_t first_row = blockIdx.y * kRows;
  if (first_output >= p.out_width) return;
  const uint8_t* const weight = static_cast<const uint8_t*>(p.weight);
  const size_t weight_row_bytes = p.in_width * dtype_bytes(p.dtype);
  // Rows and outputs past the end repeat the last one and are not stored.
  const float* x[kRows];
  const uint8_t* w[kOutputs];
#pragma unroll
  for (uint32_t r = 0; r < kRows; ++r) x[r] = p.x.row(min(first_row + r, p.row_count - 1));
#pragma unroll
  for (uint32_t o = 0; o < kOutputs; ++o) w[o] = weight + min(first_output + o, p.out_width - 1) * weight_row_bytes;

  float sums[kRows][kOutputs] = {};
#pragma unroll 2
  for (uint32_t i = lane * kVector; i < p.in_width; i += kWarpLanes * kVector) {
    float weights[kOutputs][kVector];
#pragma unroll
    for (uint32_t o = 0; o < kOutputs; ++o) load<kVector>(w[o], p.dtype, i, weights[o]);
#pragma unroll
    for (uint32_t r = 0; r < kRows; ++r) {
      float values[kVector];
      load<kVector>(x[r], Dtype::f32, i, values);
#pragma unroll
      for (uint32_t o = 0; o < kOutputs; ++o) {
#pragma unroll
        for (uint32_t v = 0; v < kVector; ++v) sums[r][o] += values[v] * weights[o][v];
      }
    }
  }
#pragma unroll
  for (uint32_t r = 0; r < kRows; ++r) {
#pragma unroll
    for (uint32_t o = 0; o < kOutputs; ++o) {
      const float sum = warp_reduce(sums[r][o], Sum{});
      if (lane != 0 || first_row + r >= p.row_count || first_output + o >= p.out_width) continue;
      float* const out = p.out.row(first_row + r) + first_output + o;
      *out = begin_of(p, out, first_output + o) + sum;
    }
  }
}

constexpr uint32_t kTile = 64;   // rows and outputs of a block
constexpr uint32_t kDepth = 32;  // inner elements of a tile
constexpr uint32_t kOwn = 4;     // rows, and outputs, of a thread
constexpr uint32_t kSide = kTile / kOwn;
constexpr uint32_t kManyThreads = kSide * kSide;
constexpr uint32_t kStride = kTile + 4;  // keeps vectors aligned and spreads a column over banks

// Rows of `source` from `first` on, transposed: tile[k][r] = element begin + k of row first + r, 0 outside.
__device__ void load_tile(float (&tile)[kDepth][kStride], const void* source, Dtype dtype, size_t row_stride,
                          uint32_t first, uint32_t rows, uint32_t begin, uint32_t width) {
#pragma unroll
  for (uint32_t i = threadIdx.x; i < kTile * kDepth; i += kManyThreads) {
    const uint32_t r = i / kDepth, k = i % kDepth;
    const bool inside = first + r < rows && begin + k < width;
    tile[k][r] = inside ? widen(source, dtype, (first + r) * row_stride + begin + k) : 0.0f;
  }
}

__global__ void __launch_bounds__(kManyThreads) linear_many(LinearParams p) {
  __shared__ __align__(16) float x_tile[kDepth][kStride];
  __shared__ __align__(16) float weight_tile[kDepth][kStride];
  const uint32_t first_row = blockIdx.y * kTile, first_output = blockIdx.x * kTile;
  const uint32_t own_row = threadIdx.x / kSide * kOwn, own_output = threadIdx.x % kSide * kOwn;
  float sums[kOwn][kOwn] = {};
  for (uint32_t begin = 0; begin < p.in_width; begin += kDepth) {
    load_tile(x_tile, p.x.data, Dtype::f32, p.x.row_stride, first_row, p.row_count, begin, p.in_width);
    load_tile(weight_tile, p.weight, p.dtype, p.in_width, first_output, p.out_width, begin, p.in_width);
    __syncthreads();
#pragma unroll 8
    for (uint32_t k = 0; k < kDepth; ++k) {
      const float4 x = *reinterpret_cast<const float4*>(&x_tile[k][own_row]);
      const float4 w = *reinterpret_cast<const float4*>(&weight_tile[k][own_output]);
      const float xs[kOwn] = {x.x, x.y, x.z, x.w}, ws[kOwn] = {w.x, w.y, w.z, w.w};
#pragma unroll
      for (uint32_t r = 0; r < kOwn; ++r) {
#pragma unroll
        for (uint32_t o = 0; o < kOwn; ++o) sums[r][o] += xs[r] * ws[o];
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (uint32_t r = 0; r < kOwn; ++r) {
#pragma unroll
    for (uint32_t o = 0; o < kOwn; ++o) {
      const uint32_t row = first_row + own_row + r, output = first_output + own_output + o;
      if (row >= p.row_count || output >= p.out_width) continue;
      float* const out = p.out.row(row) + output;
      *out = begin_of(p, out, output) + sums[r][o];
    }
  }
}

uint32_t divide_up(uint32_t count, uint32_t by) { return (count + by - 1) / by; }

template <uint32_t kRows, uint32_t kOutputs, uint32_t kVector>
void launch_few_of(const Runtime& runtime, const LinearParams& params) {
  constexpr uint32_t kBlockOutputs = kFewThreads / kWarpLanes * kOutputs;
  launch(runtime, "linear", linear_few<kRows, kOutputs, kVector>,
         {dim3(divide_up(params.out_width, kBlockOutputs), divide_up(params.row_count, kRows)), dim3(kFewThreads)},
         params);
}

// Several rows share what a warp has loaded of several weight rows; a single row has nothing to share.
template <uint32_t kVector>
void launch_few(const Runtime& runtime, const LinearParams& params) {
  if (params.row_count == 1) return launch_few_of<1, 1, kVector>(runtime, params);
  if (params.row_count == 2) return launch_few_of<2, 1, kVector>(runtime, params);
  if (params.row_count <= 4) return launch_few_of<4, 2, kVector>(runtime, params);
  launch_few_of<kMostRowsAtOnce, 2, kVector>(runtime, params);
}

}  // namespace

void linear(Runtime& runtime, const LinearParams& params) {
  if (params.row_count <= tuning::linear_few_rows) {
    const bool vectors = params.in_width % 8 == 0 && is_aligned(params.x) && is_aligned(params.weight);
    return vectors ? launch_few<8>(runtime, params) : launch_few<1>(runtime, params);
  }
  constexpr uint32_t kMostRows = 65535 * kTile;  // of one launch: a grid's height
  for (uint32_t first = 0; first < params.row_count; first += kMostRows) {
    LinearParams part = params;
    part.row_count = params.row_count - first < kMostRows ? params.row_count - first : kMostRows;
    part.x.data = params.x.row(first);
    part.out.data = params.out.row(first);
    const dim3 grid(divide_up(params.out_width, kTile), divide_up(part.row_count, kTile));
    launch(runtime, "linear", linear_many, {grid, dim3(kManyThreads)}, part);
  }
}

}  // namespace pkv::cuda
