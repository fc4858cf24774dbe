// Places in the hot set for the selected keys of a step, a block for each row and KV head. Costs 4 bytes read a key, 16 bytes
// of tags, and 4 bytes written; what counts is latency, and attend loads sink and ring meanwhile.
#include "cuda/hot_set.h"

#include "cuda/hot_set.cuh"
#include "cuda/launch.h"
#include "cuda/overlap.cuh"
#include "cuda/step_rows.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

__global__ void __launch_bounds__(tuning::hot_set_threads)
    hot_set_kernel(const __grid_constant__ Cache cache, const __grid_constant__ Plan plan, Step step, uint32_t layer,
                   uint32_t* all_places) {
  __shared__ HotSetMemory memory;
  wait_for_predecessor();
  let_successor_begin();
  const uint32_t row_head = blockIdx.x, row = row_head / cache.kv_heads, head = row_head % cache.kv_heads;
  const StepRow step_row(cache, plan, layer, step, row);
  const int32_t slot = step_row.slot;
  // Rows of one slot share its lines: the first one has them, the others go without.
  bool is_first = true;
  for (uint32_t earlier = threadIdx.x; earlier < row; earlier += blockDim.x) {
    is_first = is_first && step.slot(earlier) != slot;
  }
  is_first = __syncthreads_and(is_first) != 0;
  const uint32_t count =
      step_row.is_searched() ? min(static_cast<uint32_t>(max(plan.selected_count[row_head], 0)), plan.max_top_k) : 0;
  uint32_t* const places = all_places + size_t{row_head} * plan.max_top_k;
  uint32_t hits = 0;
  if (is_first && count > 0) {
    hits = find_hot_places(memory, plan.selected + size_t{row_head} * plan.max_top_k, count, cache.hot_lines,
                           cache.hot_tags_of(static_cast<size_t>(slot), layer, head), places);
  } else {
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) places[i] = HotPlace::none().bits;
  }
  if (threadIdx.x == 0) plan.hot_hits[row_head] = static_cast<int32_t>(hits);
}

}  // namespace

void find_hot_places(const Runtime& runtime, const AttendParams& params, uint32_t* places) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  const uint32_t threads = min((plan.max_top_k + 31) / 32 * 32, tuning::hot_set_threads);
  launch(runtime, "attend: hot set", hot_set_kernel,
         {params.step.row_count * cache.kv_heads, threads, 0, 1, true, MemoryDivision::most_shared}, cache, plan, params.step,
         params.layer, places);
}

}  // namespace pkv::cuda
