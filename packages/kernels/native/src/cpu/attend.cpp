// attend: softmax attention at full precision over sink, ring and the selected keys, or over everything in mode dense
// (docs/mathematics.md §3). Reads every record once for all query heads of its group.
#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/attend_kernels.h"
#include "cpu/attend_pieces.h"
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

// Hands spans of records to the kernel, a few at a time.
class SpanFeed {
 public:
  SpanFeed(AttendFunction attend, const AttendCall& call, uint32_t query_group)
      : attend_(attend), call_(call), query_group_(query_group) {}

  void add(const uint8_t* records, uint32_t tokens) {
    // A group wider than the kernel's reads the spans again: few of them, so that it finds them in the second cache.
    if (count_ == (query_group_ > kAttendHeads ? 2 : kAttendSpans)) run(tokens >= kFollowingTokens ? records : nullptr);
    spans_[count_++] = {records, tokens};
  }

  // `following` as in AttendCall.
  void run(const uint8_t* following) {
    if (count_ == 0) return;
    AttendCall call = call_;
    call.spans = spans_;
    call.span_count = count_;
    for (uint32_t head = 0; head < query_group_; head += kAttendHeads) {
      call.heads = std::min(query_group_ - head, kAttendHeads);
      call.following = head + kAttendHeads < query_group_ ? nullptr : following;
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
                   size_t count, const uint8_t* following, SpanFeed& spans) {
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
    spans.run(end == count ? following : nullptr);
  }
}

// Tokens [begin, end) of what one row attends to for one KV head.
struct Piece {
  size_t row;
  uint32_t slot, layer, head;
  Attended attended;
  size_t begin, end;
  float* partial;  // AttendScratch::partial_floats
};

// Calls visit(const KvSpan&) for what the tokens [begin, end) of a row have of sink, zone and ring.
template <class Visit>
void for_each_window_span(const Cache& cache, const Piece& piece, size_t begin, size_t end, Visit&& visit) {
  const Attended& attended = piece.attended;
  const int64_t first_positions = attended.first_positions, window = first_positions + attended.ring_tokens;
  const int64_t shift = attended.ring_begin - first_positions;
  const auto first = static_cast<int64_t>(begin), last = static_cast<int64_t>(end);
  const auto visit_positions = [&](int64_t from, int64_t to) {
    for_each_kv_span(cache, piece.slot, piece.layer, piece.head, from, to, visit);
  };
  visit_positions(first, std::min(last, first_positions));
  visit_positions(std::max(first, first_positions) + shift, std::min(last, window) + shift);
}

// The records that a piece begins with, where kFollowingTokens of them lie side by side; otherwise null.
const uint8_t* first_records(const Cache& cache, const Piece& piece) {
  const uint8_t* first = nullptr;
  const size_t end = std::min(piece.end, piece.begin + kFollowingTokens);
  for_each_window_span(cache, piece, piece.begin, end, [&](const KvSpan& span) {
    if (span.tokens == kFollowingTokens) first = span.records;
  });
  return first;
}

// One piece into its partial softmax; `following` as in AttendCall.
void attend_piece(const AttendParams& params, const AttendKernels& kernels, uint32_t interleave, const Piece& piece,
                  const uint8_t* following) {
  const Cache& cache = *params.plan->cache;
  const uint32_t d = cache.head_dim, query_group = cache.query_group;
  alignas(64) float q[8 * PKV_MAX_HEAD_DIM];
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  for (uint32_t g = 0; g < query_group; g++) {
    to_even_odd(params.q.row(piece.row) + size_t{piece.head * query_group + g} * d, d, interleave, scale, q + g * d);
  }
  float* maximum = piece.partial + size_t{query_group} * d;
  std::memset(piece.partial, 0, (size_t{d} + 2) * query_group * sizeof(float));
  for (uint32_t g = 0; g < query_group; g++) maximum[g] = kNothing;
  AttendCall call{};
  call.head_dim = d;
  call.q = q;
  call.output = piece.partial;
  call.maximum = maximum;
  call.sum = maximum + query_group;
  SpanFeed spans(kernels.of(cache.kv_dtype), call, query_group);
  for_each_window_span(cache, piece, piece.begin, piece.end,
                       [&](const KvSpan& span) { spans.add(span.records, span.tokens); });
  const Attended& attended = piece.attended;
  const auto window = static_cast<size_t>(attended.first_positions + attended.ring_tokens);
  const size_t first = std::max(piece.begin, window);
  if (first < piece.end) {
    const uint32_t* selected = attended.selected + (first - window);
    feed_selected(cache, piece.slot, piece.layer, piece.head, selected, piece.end - first, following, spans);
  }
  spans.run(following);
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
  from_even_odd(joined, d, interleave, inverse, out);
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

  const auto pieces_of = [&](size_t row, size_t head) {
    return AttendPieces(cache.sink_tokens, attended_of(params, row, head).tokens());
  };

  const size_t heads = size_t{params.step.row_count} * cache.kv_heads;
  size_t most_pieces = 0;
  for (size_t i = 0; i < heads; i++) {
    if (params.step.slot(i / cache.kv_heads) < 0) continue;
    most_pieces = std::max(most_pieces, pieces_of(i / cache.kv_heads, i % cache.kv_heads).count());
  }

  // The large pieces of every row and KV head come before the small ones. False where there is none of that index.
  const auto find_piece = [&](size_t index, Piece& piece) {
    const size_t row_head = index % heads, number = index / heads;
    const size_t row = row_head / cache.kv_heads, head = row_head % cache.kv_heads;
    if (number >= most_pieces || params.step.slot(row) < 0) return false;
    const AttendPieces pieces = pieces_of(row, head);
    if (number >= pieces.count()) return false;
    piece = {row,
             static_cast<uint32_t>(params.step.slot(row)),
             params.layer,
             static_cast<uint32_t>(head),
             attended_of(params, row, head),
             pieces.begin(number),
             pieces.end(number),
             partials_of(row_head) + number * stride};
    return true;
  };
  parallel_for_ahead(runtime.pool, heads * most_pieces, [&](size_t index, size_t following, unsigned) {
    Piece piece, next;
    if (!find_piece(index, piece)) return;
    const uint8_t* next_records = find_piece(following, next) ? first_records(cache, next) : nullptr;
    attend_piece(params, kernels, interleave, piece, next_records);
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
    const size_t pieces = pieces_of(row, head).count();
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
