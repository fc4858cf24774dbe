// probe: rotates the queries of every KV head and makes its vote tables (docs/mathematics.md §3 and §4). Exact: equal bytes to the
// reference. A product that goes into a sum is an __fmul_rn, which never fuses with the addition.
// Costs no bandwidth to speak of: it reads the queries and writes head_dim / 8 * 256 bytes a table. What counts is the
// latency of one short kernel, so every table is made by several blocks, each of which rotates the queries anew.
#include "cuda/codec.cuh"
#include "cuda/launch.h"
#include "cuda/ordered_key.cuh"
#include "cuda/overlap.cuh"
#include "cuda/step_rows.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kWarp = 32;
constexpr uint32_t kThreads = tuning::probe_threads;
constexpr uint32_t kMaxSubspaces = PKV_MAX_HEAD_DIM / PKV_SUBSPACE_DIM;
constexpr uint32_t kMaxQueries = 8;
constexpr uint32_t kAllLanes = 0xffffffffu;
static_assert(kThreads == PKV_CENTROIDS, "one thread a centroid");

struct ProbeArguments {
  Cache cache;
  Plan plan;
  Codec codec;
  Step step;
  Rows q;
  uint32_t layer;
  float scale;  // of the rotation
  float share;  // fround(1 / query_group)
};

// The queries behind one table, in shared memory.
struct Source {
  float rotated[kMaxQueries][PKV_MAX_HEAD_DIM];
  float spans[kMaxQueries][kMaxSubspaces];  // L1 norm of each subspace, which bounds its products
  float most[kMaxQueries];                  // the largest span; NaN when any is
  float table_spans[kMaxSubspaces];         // of the table: those of its query, or of the sum over queries
  float table_most;
};

__device__ bool is_usable(float span) { return span > 0.0f && span < INFINITY; }

// One warp rotates one vector: coordinate 32 r + lane is x[r]. The butterflies are those of the specification, in its order.
template <uint32_t kHeadDim>
__device__ void rotate(float (&x)[kHeadDim / kWarp], const Codec& codec, float scale, uint32_t lane) {
  constexpr uint32_t kOwn = kHeadDim / kWarp;
#pragma unroll
  for (uint32_t r = 0; r < kOwn; ++r) x[r] = codec.is_negative(r * kWarp + lane) ? -x[r] : x[r];
#pragma unroll
  for (uint32_t half = 1; half < kWarp; half *= 2) {
#pragma unroll
    for (uint32_t r = 0; r < kOwn; ++r) {
      const float other = __shfl_xor_sync(kAllLanes, x[r], half);
      x[r] = (lane & half) != 0 ? other - x[r] : x[r] + other;
    }
  }
#pragma unroll
  for (uint32_t half = 1; half < kOwn; half *= 2) {
#pragma unroll
    for (uint32_t r = 0; r < kOwn; ++r) {
      if ((r & half) != 0) continue;
      const float a = x[r], b = x[r + half];
      x[r] = a + b;
      x[r + half] = a - b;
    }
  }
#pragma unroll
  for (uint32_t r = 0; r < kOwn; ++r) x[r] = __fmul_rn(x[r], scale);
}

// Rotates query `query` of the group, or the average of all under `mean`, into shared memory, by one warp.
template <uint32_t kHeadDim>
__device__ void rotate_query(const ProbeArguments& a, const float* q, const float* balance, uint32_t query, float* rotated) {
  constexpr uint32_t kOwn = kHeadDim / kWarp;
  const uint32_t lane = threadIdx.x % kWarp;
  float x[kOwn];
  if (a.plan.group != Group::mean) {
#pragma unroll
    for (uint32_t r = 0; r < kOwn; ++r) {
      const uint32_t j = r * kWarp + lane;
      x[r] = __fmul_rn(balance[j], q[query * kHeadDim + j]);
    }
  } else {
    // All queries of the group are on their way before the first is added.
    float own[kMaxQueries][kOwn];
#pragma unroll
    for (uint32_t g = 0; g < kMaxQueries; ++g) {
#pragma unroll
      for (uint32_t r = 0; r < kOwn; ++r) own[g][r] = g < a.cache.query_group ? q[g * kHeadDim + r * kWarp + lane] : 0.0f;
    }
#pragma unroll
    for (uint32_t r = 0; r < kOwn; ++r) {
      const float factor = balance[r * kWarp + lane];
      x[r] = __fmul_rn(factor, own[0][r]);
#pragma unroll
      for (uint32_t g = 1; g < kMaxQueries; ++g) {
        if (g < a.cache.query_group) x[r] += __fmul_rn(factor, own[g][r]);
      }
      x[r] *= a.share;
    }
  }
  rotate<kHeadDim>(x, a.codec, a.scale, lane);
#pragma unroll
  for (uint32_t r = 0; r < kOwn; ++r) rotated[r * kWarp + lane] = x[r];
}

// The largest value of a warp; NaN when any is.
__device__ float largest_of(float own) {
  if (__any_sync(kAllLanes, isnan(own))) return NAN;
  for (uint32_t offset = kWarp / 2; offset > 0; offset /= 2) own = fmaxf(own, __shfl_xor_sync(kAllLanes, own, offset));
  return own;
}

// Fills `source` with the `queries` queries from `first` on, for a table of one query. The block has to meet afterwards.
template <uint32_t kHeadDim>
__device__ void take_queries(const ProbeArguments& a, uint32_t row, uint32_t head, uint32_t first, uint32_t queries,
                             Source& source) {
  constexpr uint32_t kSubspaces = kHeadDim / PKV_SUBSPACE_DIM;
  const uint32_t query = threadIdx.x / kWarp, b = threadIdx.x % kWarp;  // a warp a query, a lane a subspace
  if (query >= queries) return;
  const float* const balance = a.cache.calibration + ((size_t{a.layer} * a.cache.kv_heads + head) * 2 + 1) * kHeadDim;
  const float* const q = a.q.row(row) + size_t{head} * a.cache.query_group * kHeadDim;
  rotate_query<kHeadDim>(a, q, balance, first + query, source.rotated[query]);
  __syncwarp();
  float span = 0.0f;
  for (uint32_t j = 0; b < kSubspaces && j < PKV_SUBSPACE_DIM; ++j) {
    span += fabsf(source.rotated[query][b * PKV_SUBSPACE_DIM + j]);
  }
  const float most = largest_of(span);
  source.spans[query][b] = span;
  source.most[query] = most;
  if (queries > 1) return;
  source.table_spans[b] = span;
  source.table_most = most;
}

// What a table of all queries has in place of those of one. By one warp, after a barrier.
__device__ void combine_queries(uint32_t queries, Source& source) {
  const uint32_t b = threadIdx.x;
  float span = 0.0f;
  for (uint32_t query = 0; query < queries; ++query) {
    if (is_usable(source.most[query])) span += source.spans[query][b] / source.most[query];
  }
  source.table_spans[b] = span;
  source.table_most = largest_of(span);
}

// Inner product of a block of a rotated query, [PKV_SUBSPACE_DIM], with the centroid of signs `id`.
__device__ float centroid_product(const float* x, uint32_t id) {
  float product = 0.0f;
#pragma unroll
  for (uint32_t j = 0; j < PKV_SUBSPACE_DIM; ++j) product = (id >> j & 1) != 0 ? product + x[j] : product - x[j];
  return product;
}

// The product behind a vote: that of one query, or the sum over queries, each divided by its largest span so that none
// drowns another.
__device__ float table_product(const Source& source, uint32_t queries, bool combined, uint32_t b, uint32_t id) {
  if (!combined) return centroid_product(source.rotated[0] + b * PKV_SUBSPACE_DIM, id);
  float sum = 0.0f;
  for (uint32_t query = 0; query < queries; ++query) {
    if (!is_usable(source.most[query])) continue;
    sum += centroid_product(source.rotated[query] + b * PKV_SUBSPACE_DIM, id) / source.most[query];
  }
  return sum;
}

// The vote of one centroid. 0..PKV_MAX_VOTE: |product| <= span in f32 too, since both add in the same order and rounding is
// monotone.
__device__ uint32_t graded_vote(const Source& source, uint32_t queries, bool combined, uint32_t b, uint32_t id) {
  const float scale = static_cast<float>(PKV_MAX_VOTE) / (2.0f * source.table_most);
  if (!is_usable(scale)) return 0;  // a zero query, or one that is not finite
  const float product = table_product(source, queries, combined, b, id);
  return static_cast<uint32_t>(__fmul_rn(product + source.table_spans[b], scale) + 0.5f);
}

// The centroids of one subspace in the order in which a query likes them.
struct Ranking {
  alignas(16) uint32_t keys[PKV_CENTROIDS];
  uint32_t counts[PKV_CENTROIDS];  // keys of the zone in this centroid
  uint2 ranked[PKV_CENTROIDS];     // id, count
  uint32_t warp_totals[kThreads / kWarp];
};

// What tiers need to know about the zone, asked for early.
struct TierFacts {
  uint32_t keys;  // in the centroid of this thread
  int32_t limits[PKV_TIER_SHARES_PERCENT_COUNT];

  // id_counts: [PKV_CENTROIDS] of the subspace.
  __device__ void load(const uint32_t* id_counts, const int32_t* budget) {
    keys = load_early(id_counts + threadIdx.x);
#pragma unroll
    for (uint32_t tier = 0; tier < PKV_TIER_SHARES_PERCENT_COUNT; ++tier) {
      limits[tier] = load_early(budget + PKV_BUDGET_TIER_0 + tier);
    }
  }
};

// The rank of centroid `id`, below 128: how many have a larger product, or the same one and a smaller id. Two threads share
// the work, each with half of the others; both get the rank.
__device__ uint32_t rank_of(const Ranking& ranking, uint32_t id, uint32_t part) {
  constexpr uint32_t kQuads = PKV_CENTROIDS / 4 / 4;  // of 16 bytes, for one thread and half of the centroids
  const uint4* const quads = reinterpret_cast<const uint4*>(ranking.keys);
  const uint32_t key = ranking.keys[id];
  uint32_t ranks[4] = {};  // sums of their own, so that no addition waits for the one before
#pragma unroll 4
  for (uint32_t i = 0; i < kQuads; ++i) {
    const uint32_t other = (part * kQuads + i) * 4;
    const uint4 lower = quads[part * kQuads + i], upper = quads[(2 + part) * kQuads + i];
    ranks[0] += (lower.x + (other < id ? 1 : 0) > key ? 1 : 0) + (upper.x > key ? 1 : 0);
    ranks[1] += (lower.y + (other + 1 < id ? 1 : 0) > key ? 1 : 0) + (upper.y > key ? 1 : 0);
    ranks[2] += (lower.z + (other + 2 < id ? 1 : 0) > key ? 1 : 0) + (upper.z > key ? 1 : 0);
    ranks[3] += (lower.w + (other + 3 < id ? 1 : 0) > key ? 1 : 0) + (upper.w > key ? 1 : 0);
  }
  const uint32_t rank = ranks[0] + ranks[1] + ranks[2] + ranks[3];
  return rank + __shfl_xor_sync(kAllLanes, rank, 1);
}

// The votes of all centroids of a subspace: a vote is how many tiers reach beyond the keys whose centroids rank ahead. The
// opposite of a centroid has the opposite product and the opposite id, hence the opposite rank: half of them are ranked.
//
// votes: [PKV_CENTROIDS].
__device__ void tiered_votes(const Source& source, uint32_t queries, bool combined, const TierFacts& facts, uint32_t b,
                             uint8_t* votes) {
  __shared__ Ranking ranking;
  if (!isfinite(source.table_most)) {
    votes[threadIdx.x] = 0;
    return;
  }
  ranking.counts[threadIdx.x] = facts.keys;
  ranking.keys[threadIdx.x] = ordered_key(table_product(source, queries, combined, b, threadIdx.x));
  __syncthreads();
  const uint32_t lower = threadIdx.x / 2, part = threadIdx.x % 2, rank = rank_of(ranking, lower, part);
  const uint32_t id = part == 0 ? lower : PKV_CENTROIDS - 1 - lower;
  ranking.ranked[part == 0 ? rank : PKV_CENTROIDS - 1 - rank] = make_uint2(id, ranking.counts[id]);
  __syncthreads();
  const uint2 own = ranking.ranked[threadIdx.x];
  uint32_t through = own.y;  // keys of the centroids up to this one; at most the tokens of the zone
#pragma unroll
  for (uint32_t offset = 1; offset < kWarp; offset *= 2) {
    const uint32_t before = __shfl_up_sync(kAllLanes, through, offset);
    if (threadIdx.x % kWarp >= offset) through += before;
  }
  if (threadIdx.x % kWarp == kWarp - 1) ranking.warp_totals[threadIdx.x / kWarp] = through;
  __syncthreads();
  uint32_t ahead = through - own.y;
#pragma unroll
  for (uint32_t warp = 0; warp < kThreads / kWarp; ++warp) {
    if (warp < threadIdx.x / kWarp) ahead += ranking.warp_totals[warp];
  }
  uint32_t tiers = 0;
#pragma unroll
  for (uint32_t tier = 0; tier < PKV_TIER_SHARES_PERCENT_COUNT; ++tier) {
    tiers += static_cast<uint32_t>(facts.limits[tier]) > ahead ? 1 : 0;
  }
  votes[own.x] = static_cast<uint8_t>(tiers);
}

// Grid: x = row and KV head, y = subspace, z = table. A thread a centroid.
template <uint32_t kHeadDim, bool kTiered>
__global__ void __launch_bounds__(kThreads, tuning::probe_blocks_a_multiprocessor)
    probe_kernel(const __grid_constant__ ProbeArguments a) {
  constexpr uint32_t kTableBytes = kHeadDim / PKV_SUBSPACE_DIM * PKV_CENTROIDS;
  __shared__ Source source;
  wait_for_predecessor();
  let_successor_begin();
  const uint32_t row_head = blockIdx.x, b = blockIdx.y, table = blockIdx.z;
  const uint32_t row = row_head / a.cache.kv_heads, head = row_head % a.cache.kv_heads;
  // What is asked about the row comes while queries are rotated, of rows that are skipped too.
  const int32_t slot = load_early(a.step.table + size_t{row} * PKV_ROW_FIELDS + PKV_ROW_SLOT);
  const bool combined = a.plan.group == Group::sum;
  const uint32_t queries = combined ? a.plan.rotated_queries : 1;
  take_queries<kHeadDim>(a, row, head, table, queries, source);
  const size_t any_slot = static_cast<size_t>(max(slot, 0));
  const int32_t* const budget = a.cache.budget_of(any_slot, a.layer);
  const int32_t mode = load_early(budget + PKV_BUDGET_MODE);
  TierFacts facts;
  if constexpr (kTiered) {
    const size_t subspace = head_entry(a.cache, static_cast<int32_t>(any_slot), a.layer, head) * a.cache.subspaces() + b;
    facts.load(a.cache.id_counts + subspace * PKV_CENTROIDS, budget);
  }
  __syncthreads();
  if (slot < 0 || !is_searched(mode)) return;
  if (combined) {
    if (threadIdx.x < kWarp) combine_queries(queries, source);
    __syncthreads();
  }

  if (b == 0) {  // for rerank
    float* const kept = a.plan.rotated + (size_t{row_head} * a.plan.rotated_queries + table) * kHeadDim;
    for (uint32_t i = threadIdx.x; i < queries * kHeadDim; i += kThreads) kept[i] = source.rotated[i / kHeadDim][i % kHeadDim];
  }
  uint8_t* const votes = a.plan.vote_tables + (size_t{row_head} * a.plan.tables + table) * kTableBytes + b * PKV_CENTROIDS;
  if constexpr (kTiered) {
    tiered_votes(source, queries, combined, facts, b, votes);
  } else {
    votes[threadIdx.x] = static_cast<uint8_t>(graded_vote(source, queries, combined, b, threadIdx.x));
  }
}

template <uint32_t kHeadDim>
void launch_probe(const Runtime& runtime, const ProbeArguments& arguments) {
  constexpr uint32_t kSubspaces = kHeadDim / PKV_SUBSPACE_DIM;
  const uint32_t heads = arguments.step.row_count * arguments.cache.kv_heads;
  const auto kernel = arguments.plan.votes == Votes::tiered ? probe_kernel<kHeadDim, true> : probe_kernel<kHeadDim, false>;
  launch(runtime, "probe", kernel, {dim3(heads, kSubspaces, arguments.plan.tables), kThreads, 0, 1, true}, arguments);
}

}  // namespace

void probe(Runtime& runtime, const ProbeParams& params) {
  const Cache& cache = *params.plan->cache;
  const ProbeArguments arguments{cache,    *params.plan, Codec(cache),
                                 params.step, params.q,  params.layer,
                                 rotation_scale(cache.head_dim), 1.0f / static_cast<float>(cache.query_group)};
  switch (cache.head_dim) {
    case 64: return launch_probe<64>(runtime, arguments);
    case 128: return launch_probe<128>(runtime, arguments);
    default: return launch_probe<256>(runtime, arguments);
  }
}

}  // namespace pkv::cuda
