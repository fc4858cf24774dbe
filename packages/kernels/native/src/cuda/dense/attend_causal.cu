// attend_causal: causal attention of many rows of one sequence (prefill), with an online softmax over tiles of keys.
// Costs 4 * head_dim operations for every query row, query head and visible key; K and V are read and widened to f32
// once for every block of query rows. Tiles of keys begin at multiples of their length wherever the records lie, so the
// result of a row does not depend on pages or on the rows that are asked for with it.
//
// A block holds kTile queries of one KV head: the query heads of its group, row by row. Its threads form a square of 16
// by 16: thread (y, x) owns queries y, y + 16, .. and of a tile keys x, x + 16, .., so that 16 neighbours share a query.
#include <cmath>

#include "cuda/alignment.h"
#include "cuda/kv_element.cuh"
#include "cuda/launch.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kSide = 16;
constexpr uint32_t kThreads = kSide * kSide;
constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr uint32_t kPadding = 4;  // floats behind each row of shared memory: neighbouring rows begin in other banks

template <uint32_t kHeadDim>
struct Shape {
  static constexpr uint32_t kTile = kHeadDim == 256 ? 32 : 64;   // queries of a block, and keys of a tile
  static constexpr uint32_t kOwn = kTile / kSide;                // queries, and keys, of a thread
  static constexpr uint32_t kOwnParts = kHeadDim / (4 * kSide);  // of a value, four coordinates each, of a thread
  static constexpr uint32_t kStride = kHeadDim + kPadding;
  static constexpr uint32_t kWeightStride = kTile + kPadding;
};

// Shared memory: K and V of a tile take turns in `keys`.
template <uint32_t kHeadDim>
struct Tiles {
  using S = Shape<kHeadDim>;
  float queries[S::kTile][S::kStride];
  float keys[S::kTile][S::kStride];
  float weights[S::kTile][S::kWeightStride];
  const uint8_t* records[S::kTile];  // null past the last position
};

// The record of a position that has been appended: in the sink, in a page of the zone or in the ring.
__device__ const uint8_t* record_of(const Cache& cache, uint32_t slot, uint32_t layer, uint32_t head,
                                    int64_t position) {
  const int64_t token = position - cache.sink_tokens;
  if (token >= 0 && token < cache.zone_tokens[slot]) {
    const uint32_t page = cache.page_table[static_cast<size_t>(slot) * cache.max_pages + token / PKV_PAGE_TOKENS];
    return cache.records_of(page, layer, head) + token % PKV_PAGE_TOKENS * cache.record_bytes();
  }
  return cache.window_of(slot, layer, head) + cache.window_row(position) * cache.record_bytes();
}

// Widens K (or, `half_bytes` further, V) of the tile's records into shared memory; where there is none, zeros. Returns
// whether any element that this thread widened is not finite.
template <uint32_t kHeadDim>
__device__ bool load_half(Tiles<kHeadDim>& tiles, Dtype dtype, size_t half_bytes) {
  constexpr uint32_t kParts = kHeadDim / 8;
  bool irregular = false;
  for (uint32_t i = threadIdx.x; i < Shape<kHeadDim>::kTile * kParts; i += kThreads) {
    const uint32_t key = i / kParts, part = i % kParts;
    float x[8] = {};
    if (tiles.records[key] != nullptr) widen_eight(tiles.records[key] + half_bytes, dtype, part, x);
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) irregular |= !isfinite(x[j]);
    float4* const to = reinterpret_cast<float4*>(&tiles.keys[key][part * 8]);
    to[0] = make_float4(x[0], x[1], x[2], x[3]);
    to[1] = make_float4(x[4], x[5], x[6], x[7]);
  }
  return irregular;
}

template <class Combine>
__device__ float reduce_side(float value, Combine combine) {
#pragma unroll
  for (uint32_t distance = kSide / 2; distance >= 1; distance /= 2) {
    value = combine(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

// sum += a * b, four products in order.
__device__ void add_products(const float4& a, const float4& b, float& sum) {
  sum += a.x * b.x;
  sum += a.y * b.y;
  sum += a.z * b.z;
  sum += a.w * b.w;
}

// What a thread keeps of its queries: sums[q][p] are the coordinates 4 * (x + 16 p) .. of the weighted values.
template <uint32_t kHeadDim>
struct State {
  using S = Shape<kHeadDim>;
  float maximum[S::kOwn], total[S::kOwn];
  float sums[S::kOwn][S::kOwnParts][4];
};

// Turns logits of the tile into weights and brings the running softmax up to date. visible[q]: keys of the tile before
// this many are seen by query q.
template <uint32_t kHeadDim>
__device__ void weigh(Tiles<kHeadDim>& tiles, State<kHeadDim>& state,
                      float (&logits)[Shape<kHeadDim>::kOwn][Shape<kHeadDim>::kOwn],
                      const int64_t (&visible)[Shape<kHeadDim>::kOwn]) {
  using S = Shape<kHeadDim>;
  const uint32_t y = threadIdx.x / kSide, x = threadIdx.x % kSide;
#pragma unroll
  for (uint32_t q = 0; q < S::kOwn; ++q) {
    float most = -INFINITY;
#pragma unroll
    for (uint32_t k = 0; k < S::kOwn; ++k) {
      const bool seen = x + k * kSide < visible[q] && isfinite(logits[q][k]);
      if (!seen) logits[q][k] = -INFINITY;
      most = fmaxf(most, logits[q][k]);
    }
    most = fmaxf(state.maximum[q], reduce_side(most, [](float a, float b) { return fmaxf(a, b); }));
    float total = 0;
#pragma unroll
    for (uint32_t k = 0; k < S::kOwn; ++k) {
      const float weight = logits[q][k] == -INFINITY ? 0.0f : expf(logits[q][k] - most);
      tiles.weights[y + q * kSide][x + k * kSide] = weight;
      total += weight;
    }
    total = reduce_side(total, [](float a, float b) { return a + b; });
    const float kept = state.maximum[q] == -INFINITY ? 0.0f : expf(state.maximum[q] - most);
    state.maximum[q] = most;
    state.total[q] = state.total[q] * kept + total;
#pragma unroll
    for (uint32_t p = 0; p < S::kOwnParts; ++p) {
#pragma unroll
      for (uint32_t c = 0; c < 4; ++c) state.sums[q][p][c] *= kept;
    }
  }
}

// Adds the weighted values of the tile. Where a value is not finite it must reach the queries that attend it and no
// others, for 0 * NaN is NaN: then products of weight 0 are left out.
template <uint32_t kHeadDim, bool kIrregular>
__device__ void add_values(const Tiles<kHeadDim>& tiles, State<kHeadDim>& state) {
  using S = Shape<kHeadDim>;
  const uint32_t y = threadIdx.x / kSide, x = threadIdx.x % kSide;
#pragma unroll 2
  for (uint32_t k = 0; k < S::kTile; ++k) {
    float weights[S::kOwn];
#pragma unroll
    for (uint32_t q = 0; q < S::kOwn; ++q) weights[q] = tiles.weights[y + q * kSide][k];
#pragma unroll
    for (uint32_t p = 0; p < S::kOwnParts; ++p) {
      const float4 v = *reinterpret_cast<const float4*>(&tiles.keys[k][4 * (x + p * kSide)]);
      const float value[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (uint32_t q = 0; q < S::kOwn; ++q) {
#pragma unroll
        for (uint32_t c = 0; c < 4; ++c) {
          if (!kIrregular || weights[q] > 0.0f) state.sums[q][p][c] += weights[q] * value[c];
        }
      }
    }
  }
}

template <uint32_t kHeadDim>
__global__ void __launch_bounds__(kThreads)
    attend_causal_kernel(Cache cache, uint32_t layer, Step step, uint32_t first_row, uint32_t row_count,
                         Rows query_rows, Rows out_rows, float scale) {
  using S = Shape<kHeadDim>;
  extern __shared__ __align__(16) uint8_t shared[];
  Tiles<kHeadDim>& tiles = *reinterpret_cast<Tiles<kHeadDim>*>(shared);
  const uint32_t y = threadIdx.x / kSide, x = threadIdx.x % kSide;
  const uint32_t group = cache.query_group, head = blockIdx.x % cache.kv_heads;
  const uint32_t block_rows = S::kTile / group;
  // Later rows see more keys: the longest blocks begin first.
  const uint32_t block = (gridDim.x - 1 - blockIdx.x) / cache.kv_heads;
  const uint32_t begin_row = block * block_rows;
  const uint32_t rows = min(block_rows, row_count - begin_row);
  const uint32_t queries = rows * group;
  const int32_t slot = step.slot(first_row);
  const int64_t first_position = step.position(first_row) + begin_row;
  // Query n is head n % group of row n / group.
  const auto place = [&](const Rows& of, uint32_t n) {
    return of.row(first_row + begin_row + n / group) + static_cast<size_t>(head * group + n % group) * kHeadDim;
  };

  State<kHeadDim> state{};
#pragma unroll
  for (uint32_t q = 0; q < S::kOwn; ++q) state.maximum[q] = -INFINITY;
  for (uint32_t i = threadIdx.x; i < S::kTile * kHeadDim; i += kThreads) {
    const uint32_t n = i / kHeadDim, c = i % kHeadDim;
    tiles.queries[n][c] = n < queries ? place(query_rows, n)[c] * scale : 0.0f;
  }

  const int64_t end = slot < 0 ? 0 : first_position + rows;
  for (int64_t begin = 0; begin < end; begin += S::kTile) {
    if (threadIdx.x < S::kTile) {
      const int64_t position = begin + threadIdx.x;
      tiles.records[threadIdx.x] = position < end ? record_of(cache, slot, layer, head, position) : nullptr;
    }
    __syncthreads();
    load_half(tiles, cache.kv_dtype, 0);
    __syncthreads();

    float logits[S::kOwn][S::kOwn] = {};
#pragma unroll 2
    for (uint32_t c = 0; c < kHeadDim; c += 4) {
      float4 key[S::kOwn];
#pragma unroll
      for (uint32_t k = 0; k < S::kOwn; ++k) key[k] = *reinterpret_cast<const float4*>(&tiles.keys[x + k * kSide][c]);
#pragma unroll
      for (uint32_t q = 0; q < S::kOwn; ++q) {
        const float4 query = *reinterpret_cast<const float4*>(&tiles.queries[y + q * kSide][c]);
#pragma unroll
        for (uint32_t k = 0; k < S::kOwn; ++k) add_products(query, key[k], logits[q][k]);
      }
    }
    int64_t visible[S::kOwn];
#pragma unroll
    for (uint32_t q = 0; q < S::kOwn; ++q) {
      const uint32_t n = y + q * kSide;
      visible[q] = n < queries ? first_position + n / group + 1 - begin : 0;
    }
    weigh(tiles, state, logits, visible);
    __syncthreads();  // all logits are made: V may take the place of K
    const bool irregular = __syncthreads_or(load_half(tiles, cache.kv_dtype, cache.record_bytes() / 2)) != 0;
    if (irregular) {
      add_values<kHeadDim, true>(tiles, state);
    } else {
      add_values<kHeadDim, false>(tiles, state);
    }
    __syncthreads();
  }
#pragma unroll
  for (uint32_t q = 0; q < S::kOwn; ++q) {
    const uint32_t n = y + q * kSide;
    if (n >= queries) continue;
    float* const out = place(out_rows, n);
#pragma unroll
    for (uint32_t p = 0; p < S::kOwnParts; ++p) {
#pragma unroll
      for (uint32_t c = 0; c < 4; ++c) {
        out[4 * (x + p * kSide) + c] = state.total[q] > 0.0f ? state.sums[q][p][c] / state.total[q] : 0.0f;
      }
    }
  }
}

template <uint32_t kHeadDim>
void launch_attend_causal(const Runtime& runtime, const AttendCausalParams& p) {
  const Cache& cache = *p.cache;
  const uint32_t block_rows = Shape<kHeadDim>::kTile / cache.query_group;  // at least 4: groups have at most 8 heads
  const uint32_t blocks = (p.row_count + block_rows - 1) / block_rows;
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(kHeadDim)));
  launch(runtime, "attend_causal", attend_causal_kernel<kHeadDim>,
         {dim3(blocks * cache.kv_heads), dim3(kThreads), sizeof(Tiles<kHeadDim>)}, cache, p.layer, p.step, p.first_row,
         p.row_count, p.q, p.out, scale);
}

}  // namespace

void attend_causal(Runtime& runtime, const AttendCausalParams& params) {
  require_vectors(*params.cache);
  switch (params.cache->head_dim) {
    case 64: return launch_attend_causal<64>(runtime, params);
    case 128: return launch_attend_causal<128>(runtime, params);
    default: return launch_attend_causal<256>(runtime, params);
  }
}

}  // namespace pkv::cuda
