// attend: softmax attention at full precision over sink, ring and the selected keys, or over everything in mode dense
// (docs/mathematics.md §3). Reads every record once for all query heads of its group.
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

// How a row's tokens are cut: after the sink at the ends of pages, so that a piece of mode dense walks whole pages.
struct Pieces {
  size_t tokens, sink_tokens, length, count;
  Pieces(const Cache& cache, const Attended& attended)
      : tokens(attended.tokens()),
        sink_tokens(std::min<size_t>(tokens, cache.sink_tokens)),
        length(AttendScratch::piece_tokens(tokens - sink_tokens)),
        count(tokens == 0 ? 0 : std::max<size_t>(AttendScratch::pieces(tokens - sink_tokens), 1)) {}
  size_t begin(size_t piece) const { return piece == 0 ? 0 : sink_tokens + piece * length; }
  size_t end(size_t piece) const { return std::min(sink_tokens + (piece + 1) * length, tokens); }
};

// Hands spans of records to the kernel, a few at a time.
class SpanFeed {
 public:
  SpanFeed(AttendFunction attend, const AttendCall& call, uint32_t query_group)
      : attend_(attend), call_(call), query_group_(query_group) {}

  void add(const uint8_t* records, uint32_t tokens) {
    spans_[count_++] = {records, tokens};
    // A group wider than the kernel's reads the spans again: few of them, so that it finds them in the second cache.
    if (count_ == (query_group_ > kAttendHeads ? 2 : kAttendSpans)) run();
  }

  void run() {
    if (count_ == 0) return;
    AttendCall call = call_;
    call.spans = spans_;
    call.span_count = count_;
    for (uint32_t head = 0; head < query_group_; head += kAttendHeads) {
      call.heads = std::min(query_group_ - head, kAttendHeads);
      call.q = call_.q + head * call.head_dim;
      call.output = call_.output + head * call.head_dim;
      call.maximum = call_.maximum + head;
      call.sum = call_.sum + head;
      attend_(call);
    }
    count_ = 0;
  }

 private:
  AttendFunction attend_;
  AttendCall call_;
  uint32_t query_group_;
  AttendSpan spans_[kAttendSpans];
  uint32_t count_ = 0;
};

// Feeds selected tokens, [count], that lie scattered over the pages: copied side by side, a bufferful at a time.
void feed_selected(const Cache& cache, uint32_t slot, uint32_t layer, uint32_t head, const uint32_t* selected,
                   size_t count, SpanFeed& spans) {
  constexpr size_t kBufferBytes = size_t{64} << 10;
  constexpr size_t kAhead = 8;  // records that are fetched while one is copied
  alignas(64) uint8_t buffer[kBufferBytes];
  const size_t record_bytes = cache.record_bytes();
  const auto record = [&](size_t i) { return zone_record(cache, slot, layer, head, selected[i]); };
  for (size_t begin = 0; begin < count; begin += kBufferBytes / record_bytes) {
    const size_t end = std::min(begin + kBufferBytes / record_bytes, count);
    for (size_t i = begin; i < end; i++) {
      if (i + kAhead < count) {
        const uint8_t* ahead = record(i + kAhead);
        for (size_t byte = 0; byte < record_bytes; byte += 64) __builtin_prefetch(ahead + byte);
      }
      std::memcpy(buffer + (i - begin) * record_bytes, record(i), record_bytes);
    }
    spans.add(buffer, static_cast<uint32_t>(end - begin));
    spans.run();
  }
}

// Feeds the tokens [begin, end) of what a row attends to.
void feed(const Cache& cache, uint32_t slot, uint32_t layer, uint32_t head, const Attended& attended, size_t begin,
          size_t end, SpanFeed& spans) {
  const auto add_positions = [&](int64_t first, int64_t last) {
    for_each_kv_span(cache, slot, layer, head, first, last,
                     [&](const KvSpan& span) { spans.add(span.records, span.tokens); });
  };
  const auto window = static_cast<size_t>(attended.first_positions + attended.ring_tokens);
  const auto first_positions = static_cast<size_t>(attended.first_positions);
  if (begin < first_positions) add_positions(int64_t(begin), int64_t(std::min(end, first_positions)));
  if (begin < window && end > first_positions) {
    const int64_t shift = attended.ring_begin - attended.first_positions;
    add_positions(int64_t(std::max(begin, first_positions)) + shift, int64_t(std::min(end, window)) + shift);
  }
  const size_t first = std::max(begin, window);
  if (first < end) feed_selected(cache, slot, layer, head, attended.selected + (first - window), end - first, spans);
  spans.run();
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
  AttendCall call{};
  call.head_dim = d;
  call.q = q;
  call.output = partial;
  call.maximum = maximum;
  call.sum = maximum + query_group;
  SpanFeed spans(kernels.of(cache.kv_dtype), call, query_group);
  feed(cache, static_cast<uint32_t>(params.step.slot(row)), params.layer, head, attended, begin, end, spans);
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
#if defined(PARISKV_AMX)
  if (isa >= Isa::amx) return attend_amx;
#endif
#if defined(__x86_64__) || defined(_M_X64)
  if (isa >= Isa::avx512) return attend_avx512;
  if (isa >= Isa::avx2) return attend_avx2;
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
    most_pieces = std::max(most_pieces, Pieces(cache, attended).count);
  }

  parallel_for(runtime.pool, heads * most_pieces, [&](size_t index, unsigned) {
    const size_t row_head = index / most_pieces, piece = index % most_pieces;
    const size_t row = row_head / cache.kv_heads, head = row_head % cache.kv_heads;
    if (params.step.slot(row) < 0) return;
    const Attended attended = attended_of(params, row, head);
    const Pieces pieces(cache, attended);
    if (piece >= pieces.count) return;
    attend_piece(params, kernels, interleave, row, static_cast<uint32_t>(head), attended, pieces.begin(piece),
                 pieces.end(piece), partials_of(row_head) + piece * stride);
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
    const size_t pieces = Pieces(cache, attended_of(params, row, head)).count;
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
