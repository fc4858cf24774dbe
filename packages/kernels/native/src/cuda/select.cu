// select: the candidates of every KV head, by histogram and never by sorting (algorithm.md §3). Reads the scores twice, two
// bytes a key, the second time from the second-level cache. Ties go to the smaller index and the output ascends.
#include "cuda/choose.cuh"
#include "cuda/launch.h"
#include "cuda/step_rows.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kItems = 8;  // scores that a thread takes at a time: 16 bytes
static_assert(PKV_SCORE_BINS < kChooseBins && PKV_NO_SCORE >= kChooseBins, "keys without a score are in no bin");

struct SelectArguments {
  Cache cache;
  Plan plan;
  Step step;
  uint32_t layer;
};

// The scores of one row and KV head. In mode scan every valid key has score 0.
struct Scores {
  const uint16_t* scores;  // [tokens]; null in mode scan
  bool aligned;            // to 16 bytes
  const Cache& cache;
  int32_t slot;
  uint32_t layer, head;
  bool all_valid;

  __device__ void load(uint32_t first, uint32_t end, uint32_t (&values)[kItems]) const {
    if (scores != nullptr && aligned && first + kItems <= end) {
      const uint4 packed = *reinterpret_cast<const uint4*>(scores + first);
      const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
      for (uint32_t i = 0; i < kItems; ++i) values[i] = words[i / 2] >> 16 * (i % 2) & 0xffff;
      return;
    }
#pragma unroll
    for (uint32_t i = 0; i < kItems; ++i) values[i] = first + i < end ? load(first + i) : PKV_NO_SCORE;
  }

 private:
  __device__ uint32_t load(uint32_t token) const {
    if (scores != nullptr) return scores[token];
    if (all_valid) return 0;
    const uint8_t* const codes = cache.codes_of(cache.summary_of(page_of(cache, slot, token), layer, head));
    const uint32_t code_bytes = cache.head_dim / 2;
    return is_invalid_key(codes + size_t{token % PKV_PAGE_TOKENS} * code_bytes, code_bytes) ? PKV_NO_SCORE : 0;
  }
};

// Grid: one cluster for each row and KV head; its blocks share the tokens in order.
__global__ void __launch_bounds__(kChooseThreads) select_kernel(const __grid_constant__ SelectArguments a) {
  __shared__ ChooseMemory memory;
  const Cache& cache = a.cache;
  const Plan& plan = a.plan;
  const uint32_t row_head = blockIdx.x / cluster::size();
  const uint32_t row = row_head / cache.kv_heads, head = row_head % cache.kv_heads;
  const int32_t mode = row_mode(cache, a.layer, a.step, row);
  if (mode != PKV_MODE_VOTE && mode != PKV_MODE_SCAN) return;
  const int32_t slot = a.step.slot(row);
  const uint32_t tokens = plan_zone_tokens(cache, plan, slot);
  const bool votes = mode == PKV_MODE_VOTE;
  const Scores scores{votes ? plan.scores + size_t{row_head} * plan.max_zone_tokens : nullptr,
                      plan.max_zone_tokens % kItems == 0, cache, slot, a.layer, head,
                      cache.invalid_keys[head_entry(cache, slot, a.layer, head)] == 0};
  const int32_t budget = cache.budget_of(static_cast<size_t>(slot), a.layer)[PKV_BUDGET_CANDIDATES];
  const uint32_t wanted = votes ? min(static_cast<uint32_t>(max(budget, 0)), plan.max_candidates) : plan.max_candidates;

  const Share share = share_of(tokens, kItems);
  clear_histogram(memory);
  if (!votes && scores.all_valid) {
    if (threadIdx.x == 0) memory.own[0] = share.end - share.begin;
  } else {
    for (uint32_t first = share.begin + threadIdx.x * kItems; first < share.end; first += kItems * kChooseThreads) {
      uint32_t values[kItems];
      scores.load(first, share.end, values);
#pragma unroll
      for (uint32_t i = 0; i < kItems; ++i) {
        if (values[i] < PKV_SCORE_BINS) atomicAdd(&memory.own[values[i]], 1);
      }
    }
  }
  sum_histograms(memory);
  Cut cut;
  const uint32_t found = find_cut(memory, wanted, cut);

  const uint32_t lower = 2 * threadIdx.x, upper = lower + 1;
  uint32_t above;
  block_prefix((lower > cut.bin ? memory.own[lower] : 0) + (upper > cut.bin ? memory.own[upper] : 0), memory.warp_totals,
               above);
  const Counts before = counts_before(memory, {above, cut.bin < kChooseBins ? memory.own[cut.bin] : 0});
  uint32_t* const candidates = plan.candidates + size_t{row_head} * plan.max_candidates;
  if (found > 0) {
    compact<kItems>(
        memory, share.begin, share.end, before, cut.quota,
        [&](uint32_t first, uint32_t(&classes)[kItems]) {
          scores.load(first, share.end, classes);
#pragma unroll
          for (uint32_t i = 0; i < kItems; ++i) {
            const uint32_t score = classes[i];
            classes[i] = score >= PKV_SCORE_BINS ? 0 : score > cut.bin ? kAbove : score == cut.bin ? kEqual : 0;
          }
        },
        [&](uint32_t place, uint32_t token) { candidates[place] = token; });
  }
  if (cluster::rank() == 0 && threadIdx.x == 0) plan.candidate_count[row_head] = static_cast<int32_t>(found);
  cluster::sync();
}

}  // namespace

void select(Runtime& runtime, const StageParams& params) {
  const Plan& plan = *params.plan;
  const uint32_t heads = params.step.row_count * plan.cache->kv_heads;
  const uint32_t blocks = cluster_blocks(runtime, heads, plan.max_zone_tokens, tuning::select_block_tokens);
  launch(runtime, "select", select_kernel, {heads * blocks, kChooseThreads, 0, blocks},
         SelectArguments{*plan.cache, plan, params.step, params.layer});
}

}  // namespace pkv::cuda
