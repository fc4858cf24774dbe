// attend: softmax attention at full precision over sink, ring and the selected keys, or over everything in mode dense
// (algorithm.md §3). Reads every record once, in place, for all query heads of its group: 2 * head_dim elements a token, from
// the device or from mapped host memory.
//
// A row's tokens are cut into pieces; a block takes one piece after another, its warps a tile of tokens each. In a warp,
// head_dim / 8 lanes hold one token, eight coordinates a lane. All records of a tile are asked for before the first is used.
// The partial softmaxes of the pieces are joined, in their order, by the block of a row and KV head that is done last.
#include <cmath>

#include "cuda/alignment.h"
#include "cuda/kv_element.cuh"
#include "cuda/launch.h"
#include "cuda/memory.cuh"
#include "cuda/plan_scratch.h"
#include "cuda/reduce.cuh"
#include "cuda/step_rows.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kWarp = 32;
constexpr uint32_t kWarps = tuning::attend_warps, kThreads = kWarps * kWarp;
constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr uint32_t kLaneDims = 8;
constexpr uint32_t kMostPieces = tuning::attend_most_pieces;

struct AttendArguments {
  Cache cache;
  Plan plan;
  AttendScratch scratch;
  Step step;
  Rows q, out;
  uint32_t layer;
  uint32_t head_blocks;  // blocks that share the pieces of one row and KV head
  float scale;           // 1 / sqrt(head_dim)
};

// What one row attends to for one KV head: window positions, then selected keys. Mode dense is one run of positions.
struct Attended {
  uint32_t first_positions;  // positions [0, first_positions): the sink, or everything
  uint32_t ring_begin, ring_tokens;
  const uint32_t* selected;
  uint32_t tokens;  // in all

  __device__ Attended(const AttendArguments& a, uint32_t row_head, int32_t slot, int64_t position, int32_t mode) {
    const Cache& cache = a.cache;
    const int64_t seen = min(max(position + 1, int64_t{0}), int64_t{INT32_MAX});
    const int64_t zone_end = int64_t{cache.sink_tokens} + max(cache.zone_tokens[slot], 0);
    selected = a.plan.selected + size_t{row_head} * a.plan.max_top_k;
    uint32_t selected_count = 0;
    if (mode == PKV_MODE_DENSE) {
      first_positions = static_cast<uint32_t>(seen);
      ring_begin = ring_tokens = 0;
    } else {
      first_positions = static_cast<uint32_t>(min(seen, int64_t{cache.sink_tokens}));
      ring_begin = static_cast<uint32_t>(zone_end);
      ring_tokens = static_cast<uint32_t>(min(max(seen - zone_end, int64_t{0}), int64_t{cache.ring_tokens}));
      selected_count = min(static_cast<uint32_t>(max(a.plan.selected_count[row_head], 0)), a.plan.max_top_k);
    }
    tokens = min(first_positions + ring_tokens + selected_count, a.scratch.most_tokens);
  }

  // The record of token number `token`.
  __device__ const uint8_t* record(const AttendArguments& a, int32_t slot, uint32_t head, uint32_t zone_end,
                                   uint32_t token) const {
    const Cache& cache = a.cache;
    uint32_t key;  // of the zone
    if (token < first_positions + ring_tokens) {
      const uint32_t position = token < first_positions ? token : ring_begin + (token - first_positions);
      if (position < cache.sink_tokens || position >= zone_end) {
        const uint32_t window_row =
            position < cache.sink_tokens ? position : cache.sink_tokens + (position - cache.sink_tokens) % cache.ring_tokens;
        return cache.window_of(static_cast<size_t>(slot), a.layer, head) + window_row * cache.record_bytes();
      }
      key = position - cache.sink_tokens;
    } else {
      key = selected[token - first_positions - ring_tokens];
    }
    return cache.records_of(page_of(cache, slot, key), a.layer, head) + size_t{key % PKV_PAGE_TOKENS} * cache.record_bytes();
  }
};

// exp(a - b) where b is a maximum that a went into; 0 for a of -infinity, also beside b of -infinity.
__device__ float share_of_maximum(float a, float b) { return a == -INFINITY ? 0.0f : expf(a - b); }

// How a warp holds a tile of tokens.
template <uint32_t kHeadDim, Dtype kDtype, uint32_t kHeads>
struct Shape {
  static constexpr uint32_t head_dim = kHeadDim, heads = kHeads;
  static constexpr Dtype dtype = kDtype;
  static constexpr uint32_t lanes = kHeadDim / kLaneDims;        // of one token
  static constexpr uint32_t groups = kWarp / lanes;              // tokens side by side
  static constexpr uint32_t loads = kDtype == Dtype::f32 ? 2 : 4;  // tokens of one lane
  static constexpr uint32_t tile_tokens = groups * loads;
  static constexpr uint32_t vectors = kDtype == Dtype::f32 ? 2 : 1;  // 16-byte loads for eight coordinates
  // Logits number head * loads + load are spread over the lanes of a token: lane l has `own` from (l / copies) * own on.
  static constexpr uint32_t logits = kHeads * loads;
  static constexpr uint32_t own = logits > lanes ? logits / lanes : 1;
  static constexpr uint32_t copies = logits < lanes ? lanes / logits : 1;
  static constexpr uint32_t head_lanes = loads / own * copies;  // lanes that have logits of one head
  static_assert(own <= loads, "a lane has logits of one head only");
};

// Coordinate number i of the eight of `lane`. f32 rows are read in two halves, so that 16-byte loads lie side by side.
template <class S>
__device__ uint32_t dim_of(uint32_t lane, uint32_t i) {
  return S::dtype == Dtype::f32 ? i / 4 * (S::head_dim / 2) + lane * 4 + i % 4 : lane * kLaneDims + i;
}

template <class S>
struct Part {  // eight coordinates of one K or V
  uint4 vectors[S::vectors];

  __device__ void load(const uint8_t* elements, uint32_t lane) {
    const uint4* const from = reinterpret_cast<const uint4*>(elements) + lane;
#pragma unroll
    for (uint32_t i = 0; i < S::vectors; ++i) vectors[i] = load_once(from + i * S::lanes);
  }
  __device__ void widen(float (&x)[kLaneDims]) const {
    if constexpr (S::dtype == Dtype::f32) {
#pragma unroll
      for (uint32_t i = 0; i < S::vectors; ++i) {
        x[4 * i] = __uint_as_float(vectors[i].x);
        x[4 * i + 1] = __uint_as_float(vectors[i].y);
        x[4 * i + 2] = __uint_as_float(vectors[i].z);
        x[4 * i + 3] = __uint_as_float(vectors[i].w);
      }
    } else {
      widen_eight(vectors[0], S::dtype == Dtype::bf16, x);
    }
  }
};

// Sums each of values [kCount] over the lanes of a token and deals the sums out: afterwards values[k] of lane l is number
// (l / copies) * own + k. One exchange halves the values or, once a lane is down to one, the lanes.
template <class S, uint32_t kCount, uint32_t kOffset>
__device__ void sum_and_deal(float (&values)[S::logits], uint32_t lane) {
  if constexpr (kOffset > 0) {
    if constexpr (kCount > 1) {
      constexpr uint32_t kHalf = kCount / 2;
      const bool upper = (lane & kOffset) != 0;
#pragma unroll
      for (uint32_t i = 0; i < kHalf; ++i) {
        const float other = __shfl_xor_sync(kAllLanes, upper ? values[i] : values[i + kHalf], kOffset);
        values[i] = (upper ? values[i + kHalf] : values[i]) + other;
      }
      sum_and_deal<S, kHalf, kOffset / 2>(values, lane);
    } else {
      values[0] += __shfl_xor_sync(kAllLanes, values[0], kOffset);
      sum_and_deal<S, 1, kOffset / 2>(values, lane);
    }
  }
}

// The running softmax of a warp: per group of lanes, until `join_groups`.
template <class S>
struct Softmax {
  float q[S::heads][kLaneDims];
  float output[S::heads][kLaneDims];  // sum of exp(logit - maximum) * V
  float maximum, sum;                 // of the head that this lane has logits of; `sum` of this lane's logits alone

  __device__ void load_queries(const float* source, uint32_t query_group, float scale, uint32_t lane) {
#pragma unroll
    for (uint32_t g = 0; g < S::heads; ++g) {
#pragma unroll
      for (uint32_t i = 0; i < kLaneDims; ++i) {
        q[g][i] = g < query_group ? source[g * S::head_dim + dim_of<S>(lane, i)] * scale : 0.0f;
      }
    }
  }

  __device__ void clear() {
#pragma unroll
    for (uint32_t g = 0; g < S::heads; ++g) {
#pragma unroll
      for (uint32_t i = 0; i < kLaneDims; ++i) output[g][i] = 0.0f;
    }
    maximum = -INFINITY;
    sum = 0.0f;
  }

  // The value that the lanes of head g have, for a compile-time g.
  static __device__ float of_head(float value, uint32_t g) {
    return __shfl_sync(kAllLanes, value, g * S::loads / S::own * S::copies, S::lanes);
  }

  // Adds a tile. records: of lane l, that of the tile's token l. The first `tokens` of the tile count.
  __device__ void add(uint64_t records, uint32_t tokens, uint32_t lane, uint32_t group) {
    Part<S> k[S::loads], v[S::loads];
#pragma unroll
    for (uint32_t u = 0; u < S::loads; ++u) {
      const auto* const record =
          reinterpret_cast<const uint8_t*>(__shfl_sync(kAllLanes, records, u * S::groups + group));
      k[u].load(record, lane);
      v[u].load(record + S::head_dim * (S::dtype == Dtype::f32 ? 4 : 2), lane);
    }
    float logits[S::logits];
#pragma unroll
    for (uint32_t u = 0; u < S::loads; ++u) {
      float x[kLaneDims];
      k[u].widen(x);
#pragma unroll
      for (uint32_t g = 0; g < S::heads; ++g) {
        float product = q[g][0] * x[0];
#pragma unroll
        for (uint32_t i = 1; i < kLaneDims; ++i) product += q[g][i] * x[i];
        logits[g * S::loads + u] = product;
      }
    }
    sum_and_deal<S, S::logits, S::lanes / 2>(logits, lane);

    // A logit that is not finite is left out together with its V.
    float weights[S::own];
    float largest = maximum;
#pragma unroll
    for (uint32_t i = 0; i < S::own; ++i) {
      const uint32_t u = ((lane / S::copies) * S::own + i) % S::loads;
      weights[i] = isfinite(logits[i]) && u * S::groups + group < tokens ? logits[i] : -INFINITY;
      largest = fmaxf(largest, weights[i]);
    }
#pragma unroll
    for (uint32_t offset = S::copies; offset < S::head_lanes; offset *= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, offset));
    }
    const float rescale = largest == maximum ? 1.0f : share_of_maximum(maximum, largest);
    maximum = largest;
    sum *= rescale;
#pragma unroll
    for (uint32_t i = 0; i < S::own; ++i) {
      weights[i] = share_of_maximum(weights[i], largest);
      sum += weights[i];
    }
    if (!__all_sync(kAllLanes, rescale == 1.0f)) {
#pragma unroll
      for (uint32_t g = 0; g < S::heads; ++g) {
        const float of_g = of_head(rescale, g);
#pragma unroll
        for (uint32_t i = 0; i < kLaneDims; ++i) output[g][i] *= of_g;
      }
    }
#pragma unroll
    for (uint32_t u = 0; u < S::loads; ++u) {
      float x[kLaneDims];
      v[u].widen(x);
#pragma unroll
      for (uint32_t g = 0; g < S::heads; ++g) {
        const uint32_t number = g * S::loads + u;
        const float weight = __shfl_sync(kAllLanes, weights[number % S::own], number / S::own * S::copies, S::lanes);
        if (weight != 0.0f) {  // 0 * V would not be 0 where V is not finite
#pragma unroll
          for (uint32_t i = 0; i < kLaneDims; ++i) output[g][i] += weight * x[i];
        }
      }
    }
  }

  // Joins the groups of lanes; then every group has the warp's result.
  __device__ void join_groups() {
#pragma unroll
    for (uint32_t offset = S::copies; offset < S::head_lanes; offset *= 2) sum += __shfl_xor_sync(kAllLanes, sum, offset);
#pragma unroll
    for (uint32_t offset = S::lanes; offset < kWarp; offset *= 2) {
      const float other_maximum = __shfl_xor_sync(kAllLanes, maximum, offset);
      const float largest = fmaxf(maximum, other_maximum);
      const float share = share_of_maximum(maximum, largest), other_share = share_of_maximum(other_maximum, largest);
      sum = sum * share + __shfl_xor_sync(kAllLanes, sum, offset) * other_share;
      maximum = largest;
#pragma unroll
      for (uint32_t g = 0; g < S::heads; ++g) {
        const float own = of_head(share, g), other = of_head(other_share, g);
#pragma unroll
        for (uint32_t i = 0; i < kLaneDims; ++i) {
          output[g][i] = output[g][i] * own + __shfl_xor_sync(kAllLanes, output[g][i], offset) * other;
        }
      }
    }
  }
};

// What the warps of a block bring together.
template <class S>
struct WarpResults {
  float output[kWarps][S::heads][S::head_dim];
  float maximum[kWarps][S::heads], sum[kWarps][S::heads];
};

// Joins the warps' results into the partial softmax of a piece.
template <class S>
__device__ void write_piece(const WarpResults<S>& warps, uint32_t query_group, float* piece) {
  for (uint32_t i = threadIdx.x; i < query_group * S::head_dim; i += kThreads) {
    const uint32_t g = i / S::head_dim, j = i % S::head_dim;
    float maximum = -INFINITY;
#pragma unroll
    for (uint32_t warp = 0; warp < kWarps; ++warp) maximum = fmaxf(maximum, warps.maximum[warp][g]);
    float output = 0.0f, sum = 0.0f;
#pragma unroll
    for (uint32_t warp = 0; warp < kWarps; ++warp) {
      const float share = share_of_maximum(warps.maximum[warp][g], maximum);
      output += share * warps.output[warp][g][j];
      sum += share * warps.sum[warp][g];
    }
    piece[i] = output;
    if (j == 0) {
      piece[query_group * S::head_dim + g] = maximum;
      piece[query_group * (S::head_dim + 1) + g] = sum;
    }
  }
}

// Joins the pieces of a row and KV head in their order, and writes its output and statistics.
template <class S>
__device__ void join_pieces(const AttendArguments& a, uint32_t row, uint32_t head, uint32_t pieces, bool dense) {
  __shared__ float shares[S::heads][kMostPieces];
  __shared__ float inverses[S::heads];
  const uint32_t query_group = a.cache.query_group, row_head = row * a.cache.kv_heads + head;
  const float* const partials =
      a.scratch.partials + size_t{row_head} * a.scratch.most_pieces * a.scratch.piece_floats;
  const auto partial = [&](uint32_t piece, uint32_t i) {  // written by other blocks: not from the first-level cache
    return __ldcg(partials + size_t{piece} * a.scratch.piece_floats + i);
  };
  const uint32_t lane = threadIdx.x % kWarp;
  for (uint32_t g = threadIdx.x / kWarp; g < query_group; g += kWarps) {
    float maximum = -INFINITY;
    for (uint32_t piece = lane; piece < pieces; piece += kWarp) {
      maximum = fmaxf(maximum, partial(piece, query_group * S::head_dim + g));
    }
    maximum = warp_reduce(maximum, Largest());
    float sum = 0.0f;
    for (uint32_t piece = lane; piece < pieces; piece += kWarp) {
      const float share = share_of_maximum(partial(piece, query_group * S::head_dim + g), maximum);
      shares[g][piece] = share;
      sum += share * partial(piece, query_group * (S::head_dim + 1) + g);
    }
    sum = warp_reduce(sum, Sum());
    if (lane != 0) continue;
    const bool nothing = maximum == -INFINITY;
    inverses[g] = nothing ? 0.0f : 1.0f / sum;
    float* const stats = a.plan.stats + (size_t{row_head} * query_group + g) * PKV_STATS_FIELDS;
    stats[PKV_STATS_LSE_ATTENDED] = nothing ? -INFINITY : maximum + logf(sum);
    if (!dense) continue;
    stats[PKV_STATS_LSE_UNSELECTED] = -INFINITY;
    stats[PKV_STATS_LSE_OTHERS] = -INFINITY;
  }
  __syncthreads();
  float* const out = a.out.row(row) + size_t{head} * query_group * S::head_dim;
  for (uint32_t i = threadIdx.x; i < query_group * S::head_dim; i += kThreads) {
    const uint32_t g = i / S::head_dim;
    float output = 0.0f;
#pragma unroll 8
    for (uint32_t piece = 0; piece < pieces; ++piece) output += shares[g][piece] * partial(piece, i);
    out[i] = output * inverses[g];
  }
}

// Grid: head_blocks for each row and KV head.
template <class S>
__global__ void __launch_bounds__(kThreads, S::heads > 4 ? 1 : 2) attend_kernel(const __grid_constant__ AttendArguments a) {
  extern __shared__ float shared_memory[];
  WarpResults<S>& results = *reinterpret_cast<WarpResults<S>*>(shared_memory);
  __shared__ bool is_last;
  const Cache& cache = a.cache;
  const uint32_t row_head = blockIdx.x / a.head_blocks, block = blockIdx.x % a.head_blocks;
  const uint32_t row = row_head / cache.kv_heads, head = row_head % cache.kv_heads;
  const uint32_t query_group = cache.query_group;
  const int32_t slot = a.step.slot(row);
  if (slot < 0) {
    float* const out = a.out.row(row) + size_t{head} * query_group * S::head_dim;
    for (uint32_t i = threadIdx.x; block == 0 && i < query_group * S::head_dim; i += kThreads) out[i] = 0.0f;
    return;
  }
  const int32_t mode = row_mode(cache, a.layer, a.step, row);
  const Attended attended(a, row_head, slot, a.step.position(row), mode);
  const uint32_t zone_end = cache.sink_tokens + static_cast<uint32_t>(max(cache.zone_tokens[slot], 0));
  const uint32_t piece_tokens = a.scratch.piece_tokens(attended.tokens);
  const uint32_t pieces = max((attended.tokens + piece_tokens - 1) / piece_tokens, 1);
  if (block >= pieces) return;

  const uint32_t warp = threadIdx.x / kWarp, warp_lane = threadIdx.x % kWarp;
  const uint32_t lane = warp_lane % S::lanes, group = warp_lane / S::lanes;
  Softmax<S> softmax;
  softmax.load_queries(a.q.row(row) + size_t{head} * query_group * S::head_dim, query_group, a.scale, lane);
  for (uint32_t piece = block; piece < pieces; piece += a.head_blocks) {
    const uint32_t end = min((piece + 1) * piece_tokens, attended.tokens);
    softmax.clear();
    // Every lane finds one record, for as many tiles to come as there are lanes; tiles go round the warps.
    constexpr uint32_t kRoundTokens = kWarps * S::tile_tokens, kRounds = kWarp / S::tile_tokens;
    for (uint32_t begin = piece * piece_tokens + warp * S::tile_tokens; begin < end; begin += kRounds * kRoundTokens) {
      const uint32_t mine = begin + warp_lane / S::tile_tokens * kRoundTokens + warp_lane % S::tile_tokens;
      const auto record = reinterpret_cast<uint64_t>(attended.record(a, slot, head, zone_end, min(mine, end - 1)));
      for (uint32_t round = 0; round < kRounds && begin + round * kRoundTokens < end; ++round) {
        const uint64_t records = __shfl_sync(kAllLanes, record, round * S::tile_tokens + warp_lane % S::tile_tokens);
        softmax.add(records, end - (begin + round * kRoundTokens), lane, group);
      }
    }
    softmax.join_groups();
    if (group == 0) {
#pragma unroll
      for (uint32_t g = 0; g < S::heads; ++g) {
#pragma unroll
        for (uint32_t i = 0; i < kLaneDims; ++i) results.output[warp][g][dim_of<S>(lane, i)] = softmax.output[g][i];
      }
      if (lane % S::head_lanes == 0) {
        results.maximum[warp][lane / S::head_lanes] = softmax.maximum;
        results.sum[warp][lane / S::head_lanes] = softmax.sum;
      }
    }
    __syncthreads();
    write_piece<S>(results, query_group,
                   a.scratch.partials + (size_t{row_head} * a.scratch.most_pieces + piece) * a.scratch.piece_floats);
    __syncthreads();
  }

  // The arrivals wrap to zero with the last one, ready for the next launch.
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    const uint32_t blocks = min(pieces, a.head_blocks);
    is_last = atomicInc(a.scratch.arrivals + row_head, blocks - 1) == blocks - 1;
  }
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  join_pieces<S>(a, row, head, pieces, mode == PKV_MODE_DENSE);
}

template <class S>
void launch_attend(const Runtime& runtime, const AttendArguments& arguments) {
  const uint32_t heads = arguments.step.row_count * arguments.cache.kv_heads;
  launch(runtime, "attend", attend_kernel<S>, {heads * arguments.head_blocks, kThreads, sizeof(WarpResults<S>)}, arguments);
}

// A group between these sizes is filled up with heads that nobody looks at.
template <uint32_t kHeadDim, Dtype kDtype>
void launch_attend(const Runtime& runtime, const AttendArguments& arguments) {
  const uint32_t group = arguments.cache.query_group;
  if (group == 1) return launch_attend<Shape<kHeadDim, kDtype, 1>>(runtime, arguments);
  if (group <= 4) return launch_attend<Shape<kHeadDim, kDtype, 4>>(runtime, arguments);
  return launch_attend<Shape<kHeadDim, kDtype, 8>>(runtime, arguments);
}

template <uint32_t kHeadDim>
void launch_attend(const Runtime& runtime, const AttendArguments& arguments) {
  switch (arguments.cache.kv_dtype) {
    case Dtype::f32: return launch_attend<kHeadDim, Dtype::f32>(runtime, arguments);
    case Dtype::bf16: return launch_attend<kHeadDim, Dtype::bf16>(runtime, arguments);
    case Dtype::f16: return launch_attend<kHeadDim, Dtype::f16>(runtime, arguments);
  }
}

}  // namespace

void attend(Runtime& runtime, const AttendParams& params) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  require_vectors(cache);
  const AttendScratch scratch(plan);
  const uint32_t heads = params.step.row_count * cache.kv_heads;
  const uint32_t blocks = tuning::attend_blocks_a_multiprocessor * blocks_a_head(runtime, heads);
  const AttendArguments arguments{cache,    plan,       scratch,      params.step,
                                  params.q, params.out, params.layer, min(blocks, scratch.most_pieces),
                                  1.0f / std::sqrt(static_cast<float>(cache.head_dim))};
  switch (cache.head_dim) {
    case 64: return launch_attend<64>(runtime, arguments);
    case 128: return launch_attend<128>(runtime, arguments);
    default: return launch_attend<256>(runtime, arguments);
  }
}

}  // namespace pkv::cuda
