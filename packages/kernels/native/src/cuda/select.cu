// select: the candidates of every KV head, by histogram and never by sorting (docs/mathematics.md §3). Collide has counted the
// scores of every span (spans.cuh), so a block knows the cut and its place in the list before it reads its own scores, two
// bytes a key, twice from the second-level cache. Ties go to the smaller index and the output ascends.
#include "cuda/launch.h"
#include "cuda/overlap.cuh"
#include "cuda/spans.cuh"
#include "cuda/step_rows.cuh"

namespace pkv::cuda {
namespace {

static_assert(PKV_SCORE_BINS < kCountBins && PKV_NO_SCORE >= kCountBins, "keys without a score are in no bin");

struct SelectArguments {
  Cache cache;
  Plan plan;
  VoteScratch scratch;
  Step step;
  uint32_t layer;
  uint32_t spans;  // of each row and KV head
};

struct Memory {
  CutMemory cut;
  // Of all tokens and of those before the span, where nobody counted.
  alignas(8) uint32_t counts[kCountBins];
  alignas(8) uint32_t counts_before[kCountBins];
  uint32_t warp_totals[kBlockWarps];
  CompactMemory list;
  SpanCut found;
};

// The scores of one row and KV head as collide wrote them.
struct Voted {
  static constexpr uint32_t items = 8;  // that a thread takes at a time: 16 bytes
  static constexpr bool all_equal = false;
  const uint16_t* scores;  // [tokens]
  bool aligned;            // to 16 bytes

  __device__ uint32_t load(uint32_t token) const { return scores[token]; }

  // Two scores a word. A word's highest bits tell whether each reaches a bound: with that bit set first, no difference
  // borrows from the other half, and PKV_NO_SCORE, which has it anyway, is left out.
  __device__ Classes classify(uint32_t first, uint32_t end, uint32_t bin) const {
    constexpr uint32_t kOnes = 0x00010001, kHighest = 0x80008000;
    static_assert(PKV_SCORE_BINS < 1 << 15 && PKV_NO_SCORE == 0xffff, "scores leave the highest bit free");
    const uint4 packed = load_packed(first, end);
    const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
    uint32_t reaching[4], above[4];
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t difference = (words[i] | kHighest) - bin * kOnes;
      reaching[i] = difference & ~words[i] & kHighest;
      above[i] = difference - kOnes & ~words[i] & kHighest;
    }
    const uint32_t bits_above = bits_of(above);
    return {bits_above, bits_of(reaching) ^ bits_above};
  }

 private:
  __device__ uint4 load_packed(uint32_t first, uint32_t end) const {
    if (aligned && first + items <= end) return *reinterpret_cast<const uint4*>(scores + first);
    uint64_t low = 0, high = 0;
#pragma unroll 1  // rare
    for (uint32_t i = items; i-- > 0;) {
      high = high << 16 | low >> 48;
      low = low << 16 | (first + i < end ? scores[first + i] : PKV_NO_SCORE);
    }
    return make_uint4(static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32), static_cast<uint32_t>(high),
                      static_cast<uint32_t>(high >> 32));
  }
  // The highest bit of every half of the words, side by side. Their bytes are picked; the product brings the bits together.
  static __device__ uint32_t bits_of(const uint32_t (&words)[4]) {
    constexpr uint32_t kPick = 0x7531, kGather = 0x10204080;
    const uint32_t low = __byte_perm(words[0], words[1], kPick) >> 7, high = __byte_perm(words[2], words[3], kPick) >> 7;
    return low * kGather >> 28 | high * kGather >> 28 << 4;
  }
};

// In mode scan every valid key has score 0.
struct Scanned {
  static constexpr uint32_t items = 1;
  const Cache& cache;
  int32_t slot;
  uint32_t layer, head;
  bool all_equal;  // all keys are valid

  __device__ uint32_t load(uint32_t token) const {
    if (all_equal) return 0;
    const uint8_t* const codes = cache.codes_of(cache.summary_of(page_of(cache, slot, token), layer, head));
    const uint32_t code_bytes = cache.head_dim / 2;
    return is_invalid_key(codes + size_t{token % PKV_PAGE_TOKENS} * code_bytes, code_bytes) ? PKV_NO_SCORE : 0;
  }
  __device__ Classes classify(uint32_t first, uint32_t end, uint32_t) const {
    return {0, first < end && load(first) == 0 ? 1u : 0u};
  }
};

// The cut of scores that nobody has counted: in mode scan, or where collide did not run. Every block counts all tokens.
template <class Scores>
__device__ __noinline__ SpanCut count_and_cut(const Scores& scores, uint32_t tokens, uint32_t span_begin, uint32_t wanted,
                                             Memory& memory) {
  for (uint32_t bin = threadIdx.x; bin < kCountBins; bin += kBlockThreads) {
    memory.counts[bin] = memory.counts_before[bin] = 0;
  }
  if (threadIdx.x == 0) memory.found = {kCountBins, 0, 0, 0, {0, 0}};
  __syncthreads();
  if (scores.all_equal) {
    if (threadIdx.x == 0) {
      memory.counts[0] = tokens;
      memory.counts_before[0] = span_begin;
    }
  } else {
#pragma unroll 1
    for (uint32_t token = threadIdx.x; token < tokens; token += kBlockThreads) {
      const uint32_t score = scores.load(token);
      if (score >= PKV_SCORE_BINS) continue;
      atomicAdd(&memory.counts[score], 1);
      if (token < span_begin) atomicAdd(&memory.counts_before[score], 1);
    }
  }
  __syncthreads();
  // Two bins a thread, from the highest on.
  const uint32_t lower = kCountBins - 2 - 2 * threadIdx.x;
  const uint2 counts = *reinterpret_cast<const uint2*>(memory.counts + lower);
  const uint2 before = *reinterpret_cast<const uint2*>(memory.counts_before + lower);
  uint32_t total, total_before;
  const uint32_t above = block_prefix(counts.x + counts.y, memory.warp_totals, total);
  const uint32_t above_before = block_prefix(before.x + before.y, memory.warp_totals, total_before);
  const uint32_t taken = min(wanted, total);
  if (above < taken && taken <= above + counts.y) {
    memory.found = {lower + 1, taken, above, above + counts.y, {above_before, before.y}};
  } else if (above + counts.y < taken && taken <= above + counts.y + counts.x) {
    memory.found = {lower, taken, above + counts.y, above + counts.y + counts.x, {above_before + before.y, before.x}};
  }
  __syncthreads();
  return memory.found;
}

// Lists what is taken of one span; its block knows the cut.
template <class Scores>
__device__ void list_span(const Scores& scores, const Span& span, const SpanCut& cut, uint32_t* candidates, Memory& memory) {
  compact<Scores::items>(
      memory.list, span.begin, span.end, cut.before, cut.taken - cut.above,
      [&](uint32_t first) { return scores.classify(first, span.end, cut.bin); },
      // What collide counted is what lies here, unless somebody wrote other scores since: even then the list has its end.
      [&](uint32_t place, uint32_t token) {
        if (place < cut.taken) candidates[place] = token;
      });
}

// Mode scan: every valid key. An audit, and not worth a place among the instructions of mode vote.
__device__ __noinline__ uint32_t scan(const Scanned& scores, uint32_t tokens, const Span& span, uint32_t wanted,
                                      uint32_t* candidates, Memory& memory) {
  const SpanCut cut = count_and_cut(scores, tokens, span.begin, wanted, memory);
  if (cut.taken > 0) list_span(scores, span, cut, candidates, memory);
  return cut.taken;
}

// Grid: x = row and KV head, y = span.
__global__ void __launch_bounds__(kBlockThreads) select_kernel(const __grid_constant__ SelectArguments a) {
  __shared__ Memory memory;
  const Cache& cache = a.cache;
  const Plan& plan = a.plan;
  const uint32_t row_head = blockIdx.x, number = blockIdx.y;
  const uint32_t row = row_head / cache.kv_heads, head = row_head % cache.kv_heads;
  const StepRow step_row(cache, plan, a.layer, a.step, row);
  wait_for_predecessor();
  let_successor_begin();
  const bool counted = a.scratch.counted_spans[row_head] == a.spans;
  SpanCut cut{};
  if (counted) {  // what collide counted is asked for beside what the row wants
    cut = find_cut(a.scratch.score_counts + size_t{row_head} * a.spans * kCountBins, a.spans, number, step_row.candidates,
                   memory.cut);
  }
  if (!step_row.is_searched()) return;
  const uint32_t tokens = step_row.zone_tokens;
  const Span span = span_of(tokens, PKV_PAGE_TOKENS, a.spans, number);
  uint32_t* const candidates = plan.candidates + size_t{row_head} * plan.max_candidates;
  if (step_row.mode == PKV_MODE_VOTE) {
    const Voted scores{plan.scores + size_t{row_head} * plan.max_zone_tokens, plan.max_zone_tokens % Voted::items == 0};
    if (!counted) cut = count_and_cut(scores, tokens, span.begin, step_row.candidates, memory);
    if (cut.taken > 0) list_span(scores, span, cut, candidates, memory);
  } else {
    const bool all_valid = cache.invalid_keys[head_entry(cache, step_row.slot, a.layer, head)] == 0;
    cut.taken = scan({cache, step_row.slot, a.layer, head, all_valid}, tokens, span, plan.max_candidates, candidates, memory);
  }
  if (number == 0 && threadIdx.x == 0) plan.candidate_count[row_head] = static_cast<int32_t>(cut.taken);
}

}  // namespace

void select(Runtime& runtime, const StageParams& params) {
  const Plan& plan = *params.plan;
  const uint32_t heads = params.step.row_count * plan.cache->kv_heads, spans = score_spans(plan, params.step.row_count);
  launch(runtime, "select", select_kernel,
         {dim3(heads, spans), kBlockThreads, 0, 1, runtime.in_front == Verb::collide, MemoryDivision::most_cache},
         SelectArguments{*plan.cache, plan, VoteScratch(plan), params.step, params.layer, spans});
}

}  // namespace pkv::cuda
