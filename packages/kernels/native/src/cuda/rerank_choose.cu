// The last part of rerank: the top K of every KV head. The candidates' priorities are counted by their first bits (spans.cuh),
// so the bin in which the K-th largest lies is known at once. One cluster for each row and KV head: its blocks list the
// candidates from that bin on, few more than K, in the shared memory of the first block, which finds the exact cut there and
// writes what is selected in order. Where they are too many for the list, the first block works on the priorities in place.
// All sums are of integers: nothing depends on their order or on the size of the cluster.
#include <cmath>

#include "cuda/cluster.cuh"
#include "cuda/launch.h"
#include "cuda/ordered_key.cuh"
#include "cuda/overlap.cuh"
#include "cuda/priorities.cuh"
#include "cuda/rerank_stages.h"
#include "cuda/spans.cuh"
#include "cuda/step_rows.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kListEntries = tuning::choose_list_entries;

struct ChooseArguments {
  Cache cache;
  Plan plan;
  VoteScratch scratch;
  Step step;
  uint32_t layer;
  uint32_t spans;  // of each row and KV head
};

struct Memory {
  CutMemory cut;
  uint32_t counts[kCountBins];
  uint32_t warp_totals[kBlockWarps];
  Counts warp_counts[kBlockWarps];
  uint32_t bin, quota;
};

struct Candidate { uint32_t key, place; };

// The candidates as they lie in global memory.
struct AllCandidates {
  const float* priorities;
  uint32_t count;
  __device__ Candidate at(uint32_t i) const { return {ordered_key(priorities[i]), i}; }
};

// Those that the cluster has listed, in the order of their places.
struct ListedCandidates {
  const Candidate* list;
  uint32_t count;
  __device__ Candidate at(uint32_t i) const { return list[i]; }
};

// Of the keys that begin with `prefix` (those with key >> shift_above == prefix), finds the digit key >> shift of the
// quota-th largest; takes those with a larger digit off the quota. By the whole block.
template <class List>
__device__ uint32_t next_digit(const List& list, uint32_t prefix, uint32_t shift_above, uint32_t shift, uint32_t& quota,
                               Memory& memory) {
  for (uint32_t bin = threadIdx.x; bin < kCountBins; bin += kBlockThreads) memory.counts[bin] = 0;
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < list.count; i += kBlockThreads) {
    const uint32_t key = list.at(i).key;
    if (key >> shift_above == prefix) atomicAdd(&memory.counts[key >> shift & ((1u << (shift_above - shift)) - 1)], 1);
  }
  __syncthreads();
  const uint32_t lower = kCountBins - 2 - 2 * threadIdx.x;  // two bins a thread, from the highest on
  const uint2 counts = *reinterpret_cast<const uint2*>(memory.counts + lower);
  uint32_t total;
  const uint32_t above = block_prefix(counts.x + counts.y, memory.warp_totals, total);
  if (above < quota && quota <= above + counts.y) {
    memory.bin = lower + 1;
    memory.quota = quota - above;
  } else if (above + counts.y < quota && quota <= above + counts.y + counts.x) {
    memory.bin = lower;
    memory.quota = quota - above - counts.y;
  }
  __syncthreads();
  quota = memory.quota;
  return memory.bin;
}

// Writes the keys that are selected: all candidates above bin `top` of the first digit, and the `quota` first in it by
// (priority, smaller place). The list holds all of them. By the whole block.
template <class List>
__device__ void select_top(const List& list, uint32_t top, uint32_t quota, const uint32_t* candidates, uint32_t* selected,
                           Memory& memory) {
  const uint32_t middle = next_digit(list, top, kTopShift, kMiddleShift, quota, memory);
  const uint32_t prefix = top << (kTopShift - kMiddleShift) | middle;
  const uint32_t threshold = prefix << kMiddleShift | next_digit(list, prefix, kMiddleShift, 0, quota, memory);
  compact<1>(
      memory.warp_counts, 0, list.count, {0, 0}, quota,
      [&](uint32_t i, uint32_t(&classes)[1]) {
        const uint32_t key = i < list.count ? list.at(i).key : 0;
        classes[0] = key > threshold ? kAbove : key == threshold ? kEqual : 0;
      },
      [&](uint32_t place, uint32_t i) { selected[place] = candidates[list.at(i).place]; });
}

// Lists the candidates from bin `bin` on among those of `own`, in order and from `before` on. list: the first block's.
__device__ void list_candidates(const float* priorities, bool aligned, const Span& own, uint32_t bin, uint32_t before,
                                Candidate* list, Memory& memory) {
  constexpr uint32_t kItems = 4;
  compact<kItems>(
      memory.warp_counts, own.begin, own.end, {before, 0}, 0,
      [&](uint32_t first, uint32_t(&classes)[kItems]) {
        float values[kItems];
        if (aligned && first + kItems <= own.end) {
          const float4 four = *reinterpret_cast<const float4*>(priorities + first);
          values[0] = four.x, values[1] = four.y, values[2] = four.z, values[3] = four.w;
        } else {
#pragma unroll
          for (uint32_t i = 0; i < kItems; ++i) values[i] = first + i < own.end ? priorities[first + i] : 0.0f;
        }
#pragma unroll
        for (uint32_t i = 0; i < kItems; ++i) {
          classes[i] = first + i < own.end && priority_bin(ordered_key(values[i])) >= bin ? kAbove : 0;
        }
      },
      [&](uint32_t place, uint32_t i) { list[place] = {ordered_key(priorities[i]), i}; });
}

// Grid: one cluster for each row and KV head; its blocks share the spans in order.
__global__ void __launch_bounds__(kBlockThreads) choose_kernel(const __grid_constant__ ChooseArguments a) {
  extern __shared__ uint4 shared_memory[];
  Candidate* const list = reinterpret_cast<Candidate*>(shared_memory);
  __shared__ Memory memory;
  begin_overlapped();
  const Cache& cache = a.cache;
  const Plan& plan = a.plan;
  const uint32_t blocks = cluster::size(), rank = cluster::rank();
  const uint32_t row_head = blockIdx.x / blocks, row = row_head / cache.kv_heads;
  if (!is_searched(row_mode(cache, a.layer, a.step, row))) return;
  const int32_t budget = cache.budget_of(static_cast<size_t>(a.step.slot(row)), a.layer)[PKV_BUDGET_TOP_K];
  const uint32_t top_k = min(static_cast<uint32_t>(max(budget, 0)), plan.max_top_k);
  const uint32_t count = candidates_of(plan, row_head);
  const uint32_t* const candidates = plan.candidates + size_t{row_head} * plan.max_candidates;
  const float* const priorities = plan.priorities + size_t{row_head} * plan.max_candidates;
  uint32_t* const selected = plan.selected + size_t{row_head} * plan.max_top_k;
  if (rank == 0) {
    if (threadIdx.x == 0) plan.selected_count[row_head] = static_cast<int32_t>(min(count, top_k));
    if (!plan.estimate_mass && threadIdx.x < cache.query_group) {
      float* const stats = plan.stats + (size_t{row_head} * cache.query_group + threadIdx.x) * PKV_STATS_FIELDS;
      stats[PKV_STATS_LSE_UNSELECTED] = stats[PKV_STATS_LSE_OTHERS] = NAN;
    }
  }
  if (top_k == 0) return;
  if (count <= top_k) {
    for (uint32_t i = rank * kBlockThreads + threadIdx.x; i < count; i += blocks * kBlockThreads) selected[i] = candidates[i];
    return;
  }

  cluster::arrive();
  const uint32_t first_span = a.spans * rank / blocks, end_span = a.spans * (rank + 1) / blocks;
  const SpanCut cut = find_cut(a.scratch.priority_counts + size_t{row_head} * a.spans * kCountBins, a.spans, first_span, top_k,
                               memory.cut);
  cluster::wait();  // all blocks have begun: the first one's list is there
  const uint32_t quota = top_k - cut.above;
  if (cut.reaching > kListEntries) {
    if (rank == 0) select_top(AllCandidates{priorities, count}, cut.bin, quota, candidates, selected, memory);
    return;
  }
  const Span own = spans_of(count, tuning::span_candidates, a.spans, first_span, end_span);
  list_candidates(priorities, plan.max_candidates % 4 == 0, own, cut.bin, cut.before.above + cut.before.equal,
                  cluster::at(list, 0), memory);
  cluster::sync();
  if (rank == 0) select_top(ListedCandidates{list, cut.reaching}, cut.bin, quota, candidates, selected, memory);
}

}  // namespace

void choose_top(const Runtime& runtime, const StageParams& params) {
  const Plan& plan = *params.plan;
  const uint32_t heads = params.step.row_count * plan.cache->kv_heads;
  const uint32_t blocks = cluster_blocks(runtime, heads, plan.max_candidates, tuning::choose_block_candidates);
  launch(runtime, "rerank: choice", choose_kernel,
         {heads * blocks, kBlockThreads, kListEntries * sizeof(Candidate), blocks, true},
         ChooseArguments{*plan.cache, plan, VoteScratch(plan), params.step, params.layer,
                         priority_spans(plan, params.step.row_count)});
}

}  // namespace pkv::cuda
