// The last part of rerank, for a large K: the top K of every KV head. The blocks that make the priorities have counted them by
// their first bits (spans.cuh), so the bin in which the K-th largest lies is known at once. The blocks of a row and KV head list
// the candidates from that bin on, few more than K; the one that is done last takes the top K of the list. Where they are too
// many for the list, it takes them from the priorities in place.
#include "cuda/launch.h"
#include "cuda/rerank_choose.cuh"
#include "cuda/rerank_stages.h"
#include "cuda/step_rows.cuh"

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
  union {  // the one after the other
    CompactMemory list;
    ChooseMemory choose;
  };
};

// Lists the candidates from bin `bin` on among those of `own`, in order and from `before` on.
__device__ void list_candidates(const float* priorities, const uint32_t* candidates, const Span& own, uint32_t bin,
                                uint32_t before, uint32_t* keys, uint32_t* tokens, CompactMemory& memory) {
  constexpr uint32_t kItems = 4;
  compact<kItems>(
      memory, own.begin, own.end, {before, 0}, 0,
      [&](uint32_t first) {
        uint32_t above = 0;
#pragma unroll
        for (uint32_t i = 0; i < kItems; ++i) {
          if (first + i < own.end && priority_bin(ordered_key(priorities[first + i])) >= bin) above |= 1u << i;
        }
        return Classes{above, 0};
      },
      [&](uint32_t place, uint32_t i) {
        keys[place] = ordered_key(priorities[i]);
        tokens[place] = candidates[i];
      });
}

// Grid: x = row and KV head, y = one of the blocks that share its spans in order.
__global__ void __launch_bounds__(kBlockThreads) choose_kernel(const __grid_constant__ ChooseArguments a) {
  __shared__ Memory memory;
  const Cache& cache = a.cache;
  const Plan& plan = a.plan;
  const uint32_t row_head = blockIdx.x, rank = blockIdx.y;
  const StepRow step_row(cache, plan, a.layer, a.step, row_head / cache.kv_heads);
  wait_for_predecessor();
  let_successor_begin();
  if (!step_row.is_searched()) return;
  const uint32_t top_k = step_row.top_k, count = candidates_of(plan, row_head);
  const uint32_t* const candidates = plan.candidates + size_t{row_head} * plan.max_candidates;
  const float* const priorities = plan.priorities + size_t{row_head} * plan.max_candidates;
  uint32_t* const selected = plan.selected + size_t{row_head} * plan.max_top_k;
  if (rank == 0) write_choice(plan, row_head, cache.query_group, count, top_k);
  if (top_k == 0) return;
  if (count <= top_k) {
    for (uint32_t i = rank * kBlockThreads + threadIdx.x; i < count; i += a.blocks * kBlockThreads) selected[i] = candidates[i];
    return;
  }

  const uint32_t first_span = a.spans * rank / a.blocks, end_span = a.spans * (rank + 1) / a.blocks;
  const SpanCut found = find_cut(a.scratch.priority_counts + size_t{row_head} * a.spans * kCountBins, a.spans, first_span, top_k,
                                 memory.cut);
  Cut cut = Cut::of_bin(found.bin, found.above, found.reaching - found.above);
  uint32_t* const keys = a.scratch.list_keys + size_t{row_head} * a.scratch.list_slots;
  uint32_t* const tokens = a.scratch.list_tokens + size_t{row_head} * a.scratch.list_slots;
  static_assert(tuning::long_list_slots <= ChooseMemory::most_keys, "the last block holds the list");
  const bool is_listed = found.reaching <= a.scratch.list_slots;
  if (is_listed) {
    const Span own = spans_of(count, tuning::span_candidates, a.spans, first_span, end_span);
    list_candidates(priorities, candidates, own, found.bin, found.before.above + found.before.equal, keys, tokens, memory.list);
  }
  if (!arrives_last(a.scratch.choice_arrivals + row_head, a.blocks)) return;
  if (is_listed) {
    for (uint32_t i = threadIdx.x; i < found.reaching; i += kBlockThreads) memory.choose.keys[i] = __ldcg(keys + i);
    __syncthreads();
    take_largest([&](uint32_t i) { return memory.choose.keys[i]; }, found.reaching, cut, top_k, top_k, memory.choose,
                 [&](uint32_t place, uint32_t i) { selected[place] = __ldcg(tokens + i); });
  } else {
    take_largest([&](uint32_t i) { return ordered_key(priorities[i]); }, count, cut, top_k, top_k, memory.choose,
                 [&](uint32_t place, uint32_t i) { selected[place] = candidates[i]; });
  }
}

}  // namespace

void choose_many(const Runtime& runtime, const StageParams& params) {
  const Plan& plan = *params.plan;
  const uint32_t heads = params.step.row_count * plan.cache->kv_heads;
  const uint32_t spans = priority_spans(plan, params.step.row_count);
  constexpr uint32_t kBlockCandidates = tuning::choose_block_candidates;
  const uint32_t blocks = min(spans, (plan.max_candidates + kBlockCandidates - 1) / kBlockCandidates);
  launch(runtime, "rerank: choice", choose_kernel, {dim3(heads, blocks), kBlockThreads, 0, 1, true, MemoryDivision::most_shared},
         ChooseArguments{*plan.cache, plan, VoteScratch(plan), params.step, params.layer, spans, blocks});
}

}  // namespace pkv::cuda
