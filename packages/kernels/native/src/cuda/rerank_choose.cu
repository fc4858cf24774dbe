// The last part of rerank: the top K of every KV head. The candidates' priorities are counted by their first bits (spans.cuh),
// so the bin in which the K-th largest lies is known at once. The blocks of a row and KV head list the candidates from that
// bin on, few more than K; the one that is done last finds the exact cut among them and writes what is selected in order.
// Where they are too many for the list, it works on the priorities in place. All sums are of integers: nothing depends on
// their order, on the number of blocks or on which of them is last.
#include <cmath>

#include "cuda/arrivals.cuh"
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

struct ChooseArguments {
  Cache cache;
  Plan plan;
  VoteScratch scratch;
  Step step;
  uint32_t layer;
  uint32_t spans, blocks;  // of each row and KV head
};

struct Memory {
  CutMemory cut;
  alignas(8) uint32_t counts[kCountBins];
  uint32_t warp_totals[kBlockWarps];
  Counts warp_counts[kBlockWarps];
  uint32_t digit, quota, count;
};

// Candidates in their order: those that are listed, or all of them where there is no list.
struct Candidates {
  const ListedCandidate* list;  // [count]; null
  const float* priorities;      // [count] without a list
  const uint32_t* tokens;       // [count] without a list
  uint32_t count;

  __device__ uint32_t key(uint32_t i) const { return list != nullptr ? list[i].key : ordered_key(priorities[i]); }
  __device__ uint32_t token(uint32_t i) const { return list != nullptr ? list[i].token : tokens[i]; }
};

// The keys among which the cut lies: those with key >> shift == prefix. `quota` of the `count` are taken, beside all larger.
struct Cut { uint32_t prefix, shift, quota, count; };

// Narrows the cut to those with one more digit, of the bits from `shift` on. By the whole block.
__device__ void narrow(const Candidates& among, uint32_t shift, Cut& cut, Memory& memory) {
  for (uint32_t bin = threadIdx.x; bin < kCountBins; bin += kBlockThreads) memory.counts[bin] = 0;
  __syncthreads();
#pragma unroll 1
  for (uint32_t i = threadIdx.x; i < among.count; i += kBlockThreads) {
    const uint32_t key = among.key(i);
    if (key >> cut.shift == cut.prefix) atomicAdd(&memory.counts[key >> shift & ((1u << (cut.shift - shift)) - 1)], 1);
  }
  __syncthreads();
  const uint32_t lower = kCountBins - 2 - 2 * threadIdx.x;  // two bins a thread, from the highest on
  const uint2 counts = *reinterpret_cast<const uint2*>(memory.counts + lower);
  uint32_t total;
  const uint32_t above_upper = block_prefix(counts.x + counts.y, memory.warp_totals, total);
  const uint32_t above_lower = above_upper + counts.y;
  if (above_upper < cut.quota && cut.quota <= above_lower + counts.x) {
    const bool is_lower = cut.quota > above_lower;
    memory.digit = is_lower ? lower : lower + 1;
    memory.quota = cut.quota - (is_lower ? above_lower : above_upper);
    memory.count = is_lower ? counts.x : counts.y;
  }
  __syncthreads();
  cut = {cut.prefix << (cut.shift - shift) | memory.digit, shift, memory.quota, memory.count};
}

// Writes the keys that are selected: all candidates above the cut, and in it the first by (priority, smaller token). By the
// whole block.
__device__ void select_top(const Candidates& among, Cut cut, uint32_t* selected, Memory& memory) {
  // Where all of the cut are taken, and at the latest where they are equal, the smaller token decides.
#pragma unroll 1
  while (cut.shift > 0 && cut.quota < cut.count) narrow(among, cut.shift == kTopShift ? kMiddleShift : 0, cut, memory);
  compact<1>(
      memory.warp_counts, 0, among.count, {0, 0}, cut.quota,
      [&](uint32_t i) {
        if (i >= among.count) return Classes{0, 0};
        const uint32_t prefix = among.key(i) >> cut.shift;
        return Classes{prefix > cut.prefix ? 1u : 0u, prefix == cut.prefix ? 1u : 0u};
      },
      [&](uint32_t place, uint32_t i) { selected[place] = among.token(i); });
}

// Lists the candidates from bin `bin` on among those of `own`, in order and from `before` on.
__device__ void list_candidates(const float* priorities, const uint32_t* tokens, const Span& own, uint32_t bin, uint32_t before,
                                ListedCandidate* list, Memory& memory) {
  constexpr uint32_t kItems = 4;
  compact<kItems>(
      memory.warp_counts, own.begin, own.end, {before, 0}, 0,
      [&](uint32_t first) {
        uint32_t above = 0;
#pragma unroll
        for (uint32_t i = 0; i < kItems; ++i) {
          if (first + i < own.end && priority_bin(ordered_key(priorities[first + i])) >= bin) above |= 1u << i;
        }
        return Classes{above, 0};
      },
      [&](uint32_t place, uint32_t i) { list[place] = {ordered_key(priorities[i]), tokens[i]}; });
}

// Grid: x = row and KV head, y = one of the blocks that share its spans in order.
__global__ void __launch_bounds__(kBlockThreads) choose_kernel(const __grid_constant__ ChooseArguments a) {
  __shared__ Memory memory;
  const Cache& cache = a.cache;
  const Plan& plan = a.plan;
  const uint32_t row_head = blockIdx.x, row = row_head / cache.kv_heads, rank = blockIdx.y;
  // What the part of rerank in front does not write is read while that one ends.
  const int32_t slot = a.step.slot(row);
  const int32_t* const budget = slot < 0 ? nullptr : cache.budget_of(static_cast<size_t>(slot), a.layer);
  const bool searched = budget != nullptr && is_searched(budget[PKV_BUDGET_MODE]);
  const uint32_t top_k = searched ? min(static_cast<uint32_t>(max(budget[PKV_BUDGET_TOP_K], 0)), plan.max_top_k) : 0;
  wait_for_predecessor();
  let_successor_begin();
  if (!searched) return;
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
#pragma unroll 1
    for (uint32_t i = rank * kBlockThreads + threadIdx.x; i < count; i += a.blocks * kBlockThreads) selected[i] = candidates[i];
    return;
  }

  const uint32_t first_span = a.spans * rank / a.blocks, end_span = a.spans * (rank + 1) / a.blocks;
  const SpanCut cut = find_cut(a.scratch.priority_counts + size_t{row_head} * a.spans * kCountBins, a.spans, first_span, top_k,
                               memory.cut);
  const Cut top{cut.bin, kTopShift, top_k - cut.above, cut.reaching - cut.above};
  ListedCandidate* const list = a.scratch.listed + size_t{row_head} * VoteScratch::most_listed;
  const bool is_listed = cut.reaching <= VoteScratch::most_listed;
  if (is_listed) {
    const Span own = spans_of(count, tuning::span_candidates, a.spans, first_span, end_span);
    list_candidates(priorities, candidates, own, cut.bin, cut.before.above + cut.before.equal, list, memory);
  }
  if (a.blocks > 1) {
    if (!arrives_last(a.scratch.choice_arrivals + row_head, a.blocks)) return;
  } else {
    __syncthreads();
  }
  select_top({is_listed ? list : nullptr, priorities, candidates, is_listed ? cut.reaching : count}, top, selected, memory);
}

}  // namespace

void choose_top(const Runtime& runtime, const StageParams& params) {
  const Plan& plan = *params.plan;
  const uint32_t heads = params.step.row_count * plan.cache->kv_heads;
  const uint32_t spans = priority_spans(plan, params.step.row_count);
  const uint32_t blocks = min(spans, (plan.max_candidates + tuning::choose_block_candidates - 1) / tuning::choose_block_candidates);
  launch(runtime, "rerank: choice", choose_kernel, {dim3(heads, blocks), kBlockThreads, 0, 1, true},
         ChooseArguments{*plan.cache, plan, VoteScratch(plan), params.step, params.layer, spans, blocks});
}

}  // namespace pkv::cuda
