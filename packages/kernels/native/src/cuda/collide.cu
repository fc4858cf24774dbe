// collide: the votes of every key of the retrieval zone (docs/mathematics.md §3). Reads the ids plane, one byte a key and subspace,
// and writes two bytes a key; on the way it counts the scores of each span for select (spans.cuh).
// A block keeps its vote tables in shared memory (vote_lookup.cuh) and scores one span of pages.
#include "cuda/launch.h"
#include "cuda/memory.cuh"
#include "cuda/overlap.cuh"
#include "cuda/spans.cuh"
#include "cuda/step_rows.cuh"
#include "cuda/tuning.h"
#include "cuda/vote_lookup.cuh"

namespace pkv::cuda {
namespace {

constexpr uint32_t kWarp = 32;
constexpr uint32_t kThreads = tuning::collide_threads;
static_assert(kThreads == kBlockThreads, "the block's counts are its own threads' work");
constexpr uint32_t kWarpKeys = kWarp * kLaneKeys;  // a quarter of a page
constexpr uint32_t kPageWarps = PKV_PAGE_TOKENS / kWarpKeys;
constexpr uint32_t kTeams = kThreads / kWarp / kPageWarps;  // pages that a block scores at a time
static_assert(PKV_SCORE_BINS < kCountBins, "every score has a bin");

struct CollideArguments {
  Cache cache;
  Plan plan;
  VoteScratch scratch;
  Step step;
  uint32_t layer;
  uint32_t spans;  // of each row and KV head
};

// Keys that cannot be scored have been, like all others. Takes the scores of those among a lane's four keys from `token` on
// back, by the thread that wrote them.
__device__ void take_back_invalid(const CollideArguments& a, uint32_t row_head, int32_t slot, uint32_t token, uint32_t tokens,
                                  uint32_t* counts) {
  const uint32_t code_bytes = a.cache.head_dim / 2;
  const uint32_t page = page_of(a.cache, slot, token);
  const uint8_t* const codes = a.cache.codes_of(a.cache.summary_of(page, a.layer, row_head % a.cache.kv_heads));
  uint16_t* const scores = a.plan.scores + size_t{row_head} * a.plan.max_zone_tokens;
#pragma unroll 1  // rare: not worth registers
  for (uint32_t key = token; key < min(token + kLaneKeys, tokens); ++key) {
    if (!is_invalid_key(codes + key % PKV_PAGE_TOKENS * code_bytes, code_bytes)) continue;
    atomicSub(&counts[scores[key]], 1);
    scores[key] = PKV_NO_SCORE;
  }
}

// Grid: x = row and KV head, y = span. A team of four warps scores a page at a time.
template <uint32_t kHeadDim, uint32_t kGroups, uint32_t kBytes>
__global__ void __launch_bounds__(kThreads, 1) collide_kernel(const __grid_constant__ CollideArguments a) {
  using Layout = TableLayout<kHeadDim, kGroups, kBytes>;
  // Their ids are in flight at a time, 64 bytes a lane; several tables take the registers.
  constexpr uint32_t kStepSubspaces = Layout::one_table && Layout::subspaces >= 16 ? 16 : 8;
  constexpr uint32_t kPageSteps = Layout::subspaces / kStepSubspaces;
  extern __shared__ uint4 shared_memory[];
  uint32_t* const tables = reinterpret_cast<uint32_t*>(shared_memory);
  __shared__ __align__(8) uint32_t counts[kCountBins];
  __shared__ uint32_t warp_totals[kBlockWarps];

  const uint32_t row_head = blockIdx.x, number = blockIdx.y;
  const uint32_t row = row_head / a.cache.kv_heads, head = row_head % a.cache.kv_heads;
  const StepRow step_row(a.cache, a.plan, a.layer, a.step, row);
  for (uint32_t bin = threadIdx.x; bin < kCountBins; bin += kThreads) counts[bin] = 0;
  const bool votes = step_row.mode == PKV_MODE_VOTE;
  if (!votes) {
    wait_for_predecessor();
    if (number == 0 && threadIdx.x == 0) a.scratch.counted_spans[row_head] = 0;
    return;
  }
  const int32_t slot = step_row.slot;
  const uint32_t tokens = step_row.zone_tokens;
  const Span span = span_of(tokens, PKV_PAGE_TOKENS, a.spans, number);
  const uint32_t pages = (span.end - span.begin + PKV_PAGE_TOKENS - 1) / PKV_PAGE_TOKENS;

  const uint32_t lane = threadIdx.x % kWarp, team = threadIdx.x / kWarp / kPageWarps;
  const uint32_t own_pages = team < pages ? (pages - team + kTeams - 1) / kTeams : 0;
  const uint32_t row_in_page = threadIdx.x % (kPageWarps * kWarp) * kLaneKeys;

  // Lane l holds the address of page number l of the warp's 32 that come next: only one in 32 waits for the page tables.
  uint64_t addresses = 0;
  const auto rows_of = [&](uint32_t own) {  // the ids of this lane's keys in the first subspace of page number `own`
    if (own % kWarp == 0) {
      const uint32_t ahead = min(lane, own_pages - 1 - own) * kTeams * PKV_PAGE_TOKENS;
      const uint32_t page = page_of(a.cache, slot, span.begin + (team + own * kTeams) * PKV_PAGE_TOKENS + ahead);
      addresses = reinterpret_cast<uint64_t>(a.cache.summary_of(page, a.layer, head));
    }
    return reinterpret_cast<const uint8_t*>(__shfl_sync(kAllLanes, addresses, own % kWarp)) + row_in_page;
  };
  const auto load_ids = [&](const uint8_t* rows, uint32_t b) {
    return load_once(reinterpret_cast<const uint32_t*>(rows + b * PKV_PAGE_TOKENS));
  };

  // The first ids are on their way while the tables are made and filled.
  const uint8_t* rows = nullptr;
  uint32_t ids[kStepSubspaces] = {};
  if (own_pages > 0) {
    rows = rows_of(0);
#pragma unroll
    for (uint32_t b = 0; b < kStepSubspaces; ++b) ids[b] = load_ids(rows, b);
  }
  wait_for_predecessor();
  let_successor_begin();
  if (number == 0 && threadIdx.x == 0) a.scratch.counted_spans[row_head] = a.spans;
  if (pages > 0) {
    fill_tables<Layout>(a.plan.vote_tables + size_t{row_head} * a.plan.tables * Layout::subspaces * PKV_CENTROIDS,
                        a.plan.tables, tables);
  }
  // Of this lane's four keys: where their scores go, and how many tokens there are from the first one on.
  const uint32_t first_token = span.begin + team * PKV_PAGE_TOKENS + row_in_page;
  uint16_t* scores = a.plan.scores + size_t{row_head} * a.plan.max_zone_tokens + first_token;
  int32_t tokens_left = static_cast<int32_t>(tokens) - static_cast<int32_t>(first_token);
  __syncthreads();

  for (uint32_t own = 0; own < own_pages; ++own) {
    const uint8_t* const current = rows;
    const bool is_last = own + 1 == own_pages;
    if (!is_last) rows = rows_of(own + 1);
    Sums<Layout> sums;
    sums.clear();
#pragma unroll
    for (uint32_t step = 0; step < kPageSteps; ++step) {
      const bool page_goes_on = step + 1 < kPageSteps;
#pragma unroll
      for (uint32_t b = 0; b < kStepSubspaces; b += kPackedSubspaces) {
        const uint32_t now[kPackedSubspaces] = {ids[b], ids[b + 1], ids[b + 2], ids[b + 3]};
        sums.add(now, tables, step * kStepSubspaces + b);
#pragma unroll
        for (uint32_t i = b; i < b + kPackedSubspaces; ++i) {
          if (page_goes_on) {
            ids[i] = load_ids(current, (step + 1) * kStepSubspaces + i);
          } else if (!is_last) {
            ids[i] = load_ids(rows, i);
          }
        }
      }
    }
    uint32_t values[kLaneKeys];
#pragma unroll
    for (uint32_t key = 0; key < kLaneKeys; ++key) values[key] = sums.score(key);
#pragma unroll
    for (int32_t key = 0; key < static_cast<int32_t>(kLaneKeys); ++key) {
      if (key < tokens_left) atomicAdd(&counts[values[key]], 1);
    }
    if (a.plan.max_zone_tokens % kLaneKeys == 0 && tokens_left >= static_cast<int32_t>(kLaneKeys)) {
      *reinterpret_cast<uint2*>(scores) = make_uint2(values[0] | values[1] << 16, values[2] | values[3] << 16);
    } else {
#pragma unroll
      for (int32_t key = 0; key < static_cast<int32_t>(kLaneKeys); ++key) {
        if (key < tokens_left) scores[key] = static_cast<uint16_t>(values[key]);
      }
    }
    scores += kTeams * PKV_PAGE_TOKENS;
    tokens_left -= static_cast<int32_t>(kTeams * PKV_PAGE_TOKENS);
  }
  if (a.cache.invalid_keys[head_entry(a.cache, slot, a.layer, head)] > 0) {
    for (uint32_t own = 0; own < own_pages; ++own) {
      take_back_invalid(a, row_head, slot, first_token + own * kTeams * PKV_PAGE_TOKENS, tokens, counts);
    }
  }
  __syncthreads();
  write_reaching(counts, warp_totals, a.scratch.score_counts + (size_t{row_head} * a.spans + number) * kCountBins);
}

template <uint32_t kHeadDim, uint32_t kGroups, uint32_t kBytes>
void launch_collide(const Runtime& runtime, const CollideArguments& arguments) {
  const uint32_t heads = arguments.step.row_count * arguments.cache.kv_heads;
  const bool overlaps = runtime.in_front == Verb::probe;
  launch(runtime, "collide", collide_kernel<kHeadDim, kGroups, kBytes>,
         {dim3(heads, arguments.spans), kThreads, TableLayout<kHeadDim, kGroups, kBytes>::bytes, 1, overlaps,
          MemoryDivision::most_shared},
         arguments);
}

template <uint32_t kHeadDim, uint32_t kBytes>
void launch_collide(const Runtime& runtime, const CollideArguments& arguments) {
  const uint32_t tables = arguments.plan.tables;
  if (tables == 1) return launch_collide<kHeadDim, 0, kBytes>(runtime, arguments);
  if (tables <= kWordTables) return launch_collide<kHeadDim, 1, kBytes>(runtime, arguments);
  return launch_collide<kHeadDim, 2, kBytes>(runtime, arguments);
}

template <uint32_t kHeadDim>
void launch_collide(const Runtime& runtime, const CollideArguments& arguments) {
  if (runtime.shared_bytes >= tuning::collide_table_bytes) {
    return launch_collide<kHeadDim, tuning::collide_table_bytes>(runtime, arguments);
  }
  return launch_collide<kHeadDim, tuning::collide_small_table_bytes>(runtime, arguments);
}

}  // namespace

void collide(Runtime& runtime, const StageParams& params) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  const CollideArguments arguments{cache,       plan,         VoteScratch(plan),
                                   params.step, params.layer, score_spans(plan, params.step.row_count)};
  switch (cache.head_dim) {
    case 64: return launch_collide<64>(runtime, arguments);
    case 128: return launch_collide<128>(runtime, arguments);
    default: return launch_collide<256>(runtime, arguments);
  }
}

}  // namespace pkv::cuda
