// attend: softmax attention at full precision over sink, ring and the selected keys, or over everything in mode dense
// (algorithm.md §3). Reads every record once for all query heads of its group.
#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/attend_kernels.h"
#include "cpu/even_odd.h"
#include "cpu/kv_spans.h"
#include "cpu/plan_scratch.h"
#include "cpu/step_rows.h"

namespace pkv::cpu {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// What one row attends to for one KV head: window positions, then selected keys. Mode dense is one run of positions.
struct Attended {
  int64_t first_positions;  // positions [0, first_positions): the sink, or everything
  int64_t ring_begin, ring_tokens;
  const uint32_t* selected;
  uint32_t selected_count;
  size_t tokens() const { return static_cast<size_t>(first_positions + ring_tokens) + selected_count; }
};

Attended attended_of(const AttendParams& params, size_t row, size_t head) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  // Work stays within what the plan's scratch holds, whatever the tables say.
  const int64_t most = static_cast<int64_t>(AttendScratch::max_tokens(plan));
  const int64_t seen = std::clamp<int64_t>(params.step.position(row) + 1, 0, most);
  if (row_mode(cache, params.layer, params.step, row) == PKV_MODE_DENSE) return {seen, 0, 0, nullptr, 0};
  const int64_t ring_begin = int64_t{cache.sink_tokens} + cache.zone_tokens[params.step.slot(row)];
  const size_t row_head = row * cache.kv_heads + head;
  const auto selected_count =
      std::min(static_cast<uint32_t>(std::max(plan.selected_count[row_head], 0)), plan.max_top_k);
  return {std::min<int64_t>(seen, cache.sink_tokens), ring_begin,
          std::clamp<int64_t>(seen - ring_begin, 0, cache.ring_tokens), plan.selected + row_head * plan.max_top_k,
          selected_count};
}

// Gathers records into blocks and hands each full block, with the one after it, to the kernel.
class BlockFeed {
 public:
  BlockFeed(AttendBlockFunction attend, AttendBlock block, uint32_t query_group)
      : attend_(attend), block_(block), query_group_(query_group) {}

  void add(const uint8_t* record) {
    records_[filling_][count_++] = record;
    if (count_ == kAttendBlockTokens) turn();
  }

  void finish() {
    turn();
    if (waiting_ > 0) run(filling_ ^ 1, filling_ ^ 1);
  }

 private:
  // The block that was being filled starts to wait; the one that waited runs while its successor is fetched.
  void turn() {
    if (count_ == 0) return;
    for (uint32_t i = count_; i < kAttendBlockTokens; i++) records_[filling_][i] = records_[filling_][0];
    if (waiting_ > 0) run(filling_ ^ 1, filling_);
    waiting_ = count_;
    count_ = 0;
    filling_ ^= 1;
  }

  void run(unsigned current, unsigned next) {
    AttendBlock block = block_;
    block.records = records_[current];
    block.next = records_[next];
    block.tokens = waiting_;
    for (uint32_t head = 0; head < query_group_; head += kAttendHeads) {
      block.heads = std::min(query_group_ - head, kAttendHeads);
      block.q = block_.q + head * block.head_dim;
      block.output = block_.output + head * block.head_dim;
      block.maximum = block_.maximum + head;
      block.sum = block_.sum + head;
      attend_(block);
    }
    waiting_ = 0;
  }

  AttendBlockFunction attend_;
  AttendBlock block_;
  uint32_t query_group_;
  const uint8_t* records_[2][kAttendBlockTokens];
  unsigned filling_ = 0;
  uint32_t count_ = 0, waiting_ = 0;
};

// Feeds the tokens [begin, end) of what a row attends to.
void feed(const Cache& cache, uint32_t slot, uint32_t layer, uint32_t head, const Attended& attended, size_t begin,
          size_t end, BlockFeed& blocks) {
  const size_t record_bytes = cache.record_bytes();
  const auto add_positions = [&](int64_t first, int64_t last) {
    for_each_kv_span(cache, slot, layer, head, first, last, [&](const KvSpan& span) {
      for (uint32_t i = 0; i < span.tokens; i++) blocks.add(span.records + i * record_bytes);
    });
  };
  const auto window = static_cast<size_t>(attended.first_positions + attended.ring_tokens);
  const auto first_positions = static_cast<size_t>(attended.first_positions);
  if (begin < first_positions) add_positions(int64_t(begin), int64_t(std::min(end, first_positions)));
  if (begin < window && end > first_positions) {
    const int64_t shift = attended.ring_begin - attended.first_positions;
    add_positions(int64_t(std::max(begin, first_positions)) + shift, int64_t(std::min(end, window)) + shift);
  }
  for (size_t i = std::max(begin, window); i < end; i++) {
    blocks.add(zone_record(cache, slot, layer, head, attended.selected[i - window]));
  }
}

// One piece of one row and KV head into its partial softmax.
void attend_piece(const AttendParams& params, const AttendKernels& kernels, uint32_t interleave, size_t row,
                  uint32_t head, const Attended& attended, size_t begin, size_t end, float* partial) {
  const Cache& cache = *params.plan->cache;
  const uint32_t d = cache.head_dim, query_group = cache.query_group;
  alignas(64) float q[8 * PKV_MAX_HEAD_DIM];
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  for (uint32_t g = 0; g < query_group; g++) {
    const float* source = params.q.row(row) + size_t{head * query_group + g} * d;
    for (uint32_t i = 0; i < d; i++) q[g * d + i] = source[natural_index(i, interleave)] * scale;
  }
  float* maximum = partial + size_t{query_group} * d;
  std::memset(partial, 0, (size_t{d} + 2) * query_group * sizeof(float));
  for (uint32_t g = 0; g < query_group; g++) maximum[g] = kNothing;
  AttendBlock block{};
  block.head_dim = d;
  block.q = q;
  block.output = partial;
  block.maximum = maximum;
  block.sum = maximum + query_group;
  BlockFeed blocks(kernels.of(cache.kv_dtype), block, query_group);
  feed(cache, static_cast<uint32_t>(params.step.slot(row)), params.layer, head, attended, begin, end, blocks);
  blocks.finish();
}

// Joins the pieces of one query head in their order. Returns the log-sum-exp of its logits.
float join_pieces(const Cache& cache, const float* partials, size_t pieces, uint32_t interleave, uint32_t g,
                  float* out) {
  const uint32_t d = cache.head_dim, query_group = cache.query_group;
  const size_t stride = AttendScratch::partial_floats(cache);
  const auto maximum_of = [&](size_t piece) { return partials[piece * stride + size_t{query_group} * d + g]; };
  const auto sum_of = [&](size_t piece) { return partials[piece * stride + size_t{query_group} * (d + 1) + g]; };
  float maximum = kNothing;
  for (size_t piece = 0; piece < pieces; piece++) maximum = std::max(maximum, maximum_of(piece));
  float joined[PKV_MAX_HEAD_DIM] = {};
  if (maximum == kNothing) {
    std::memcpy(out, joined, d * sizeof(float));
    return kNothing;
  }
  double sum = 0;
  for (size_t piece = 0; piece < pieces; piece++) {
    const float weight = std::exp(maximum_of(piece) - maximum);
    if (weight == 0) continue;
    const float* output = partials + piece * stride + size_t{g} * d;
    sum += double{weight} * sum_of(piece);
    for (uint32_t i = 0; i < d; i++) joined[i] += weight * output[i];
  }
  const float inverse = static_cast<float>(1 / sum);
  for (uint32_t i = 0; i < d; i++) out[natural_index(i, interleave)] = joined[i] * inverse;
  return maximum + static_cast<float>(std::log(sum));
}

}  // namespace

const AttendKernels& attend_kernels(Isa isa) {
#if defined(__x86_64__) || defined(_M_X64)
  if (isa == Isa::avx512) return attend_avx512;
  if (isa == Isa::avx2) return attend_avx2;
#endif
  (void)isa;
  return attend_portable;
}

void attend(Runtime& runtime, const AttendParams& params) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  const AttendKernels& kernels = attend_kernels(runtime.isa);
  const uint32_t interleave = cache.kv_dtype == Dtype::bf16 ? kernels.bf16_interleave : 0;
  const size_t stride = AttendScratch::partial_floats(cache);
  auto* partials = reinterpret_cast<float*>(plan.scratch);
  const size_t max_pieces = AttendScratch::max_pieces(plan);
  const auto partials_of = [&](size_t row_head) { return partials + row_head * max_pieces * stride; };

  const size_t heads = size_t{params.step.row_count} * cache.kv_heads;
  size_t most_pieces = 0;
  for (size_t i = 0; i < heads; i++) {
    if (params.step.slot(i / cache.kv_heads) < 0) continue;
    const Attended attended = attended_of(params, i / cache.kv_heads, i % cache.kv_heads);
    most_pieces = std::max(most_pieces, AttendScratch::pieces(attended.tokens()));
  }

  parallel_for(runtime.pool, heads * most_pieces, [&](size_t index, unsigned) {
    const size_t row_head = index / most_pieces, piece = index % most_pieces;
    const size_t row = row_head / cache.kv_heads, head = row_head % cache.kv_heads;
    if (params.step.slot(row) < 0) return;
    const Attended attended = attended_of(params, row, head);
    const size_t tokens = attended.tokens(), length = AttendScratch::piece_tokens(tokens);
    const size_t begin = piece * length, end = std::min(begin + length, tokens);
    if (begin >= end) return;
    attend_piece(params, kernels, interleave, row, static_cast<uint32_t>(head), attended, begin, end,
                 partials_of(row_head) + piece * stride);
  });

  parallel_for(runtime.pool, heads, [&](size_t row_head, unsigned) {
    const size_t row = row_head / cache.kv_heads, head = row_head % cache.kv_heads;
    const size_t first_query = head * cache.query_group;
    float* out = params.out.row(row) + first_query * cache.head_dim;
    if (params.step.slot(row) < 0) {
      std::memset(out, 0, size_t{cache.query_group} * cache.head_dim * sizeof(float));
      return;
    }
    const bool dense = row_mode(cache, params.layer, params.step, row) == PKV_MODE_DENSE;
    const size_t pieces = AttendScratch::pieces(attended_of(params, row, head).tokens());
    for (uint32_t g = 0; g < cache.query_group; g++) {
      float* stats = plan.stats + (row * cache.query_heads() + first_query + g) * PKV_STATS_FIELDS;
      stats[PKV_STATS_LSE_ATTENDED] =
          join_pieces(cache, partials_of(row_head), pieces, interleave, g, out + size_t{g} * cache.head_dim);
      if (!dense) continue;
      stats[PKV_STATS_LSE_UNSELECTED] = kNothing;
      stats[PKV_STATS_LSE_OTHERS] = kNothing;
    }
  });
}

}  // namespace pkv::cpu
