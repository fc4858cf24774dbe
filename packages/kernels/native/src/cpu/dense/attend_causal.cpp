// attend_causal: causal attention of many rows of one sequence (prefill). Costs 4 * head_dim operations for every query
// row, query head and visible key; K and V are read and widened to f32 once for every block of query rows.
//
// Tiles of keys begin at multiples of kCausalTile positions, wherever the records lie and whatever rows are asked for,
// so the result of a row does not depend on chunks, on pages, or on the number of threads.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/dense/attend_causal_kernels.h"
#include "cpu/dense/scratch.h"
#include "cpu/kv_spans.h"

namespace pkv::cpu {
namespace {

// Query rows, times heads of a group, that share a widened tile. With 128 widening costs some 4 % of the arithmetic.
constexpr uint32_t kBlockLanes = 128;
// Tasks per thread that suffice for an even split; below, blocks are made smaller.
constexpr size_t kTasksPerThread = 4;
constexpr uint32_t kMostLanes = 32;  // of any AttendCausalKernels
// Rows of a tile are this much longer than head_dim, so that one column of V does not fall into few cache sets.
constexpr uint32_t kRowPadding = 16;

// A value that is not finite must reach the rows that attend it and no others: 0 * NaN is NaN. Its row of the tile is
// zero, and it is added where its weight is not.
struct IrregularValue {
  uint32_t key;
  const uint8_t* value;
};

// What one thread works on.
struct Work {
  float *queries, *sums;  // [strips, head_dim, lanes]
  float *maximum, *total; // [strips, lanes]
  float *kept;            // [lanes]
  float *weights;         // [kCausalTile, lanes]
  float *keys, *values;   // [kCausalTile, head_dim + kRowPadding]
  float *irregular_row;   // [head_dim]
  IrregularValue irregular[kCausalTile];
  uint32_t irregular_count;

  static size_t floats(uint32_t head_dim, uint32_t block_lanes, uint32_t lanes) {
    return size_t{2} * block_lanes * head_dim + 2 * block_lanes + lanes + kCausalTile * lanes +
           2 * kCausalTile * (head_dim + kRowPadding) + head_dim;
  }
  Work(float* memory, uint32_t head_dim, uint32_t block_lanes, uint32_t lanes) : irregular_count(0) {
    const auto take = [&memory](size_t count) { return memory += count, memory - count; };
    queries = take(size_t{block_lanes} * head_dim);
    sums = take(size_t{block_lanes} * head_dim);
    maximum = take(block_lanes);
    total = take(block_lanes);
    kept = take(lanes);
    weights = take(size_t{kCausalTile} * lanes);
    keys = take(size_t{kCausalTile} * (head_dim + kRowPadding));
    values = take(size_t{kCausalTile} * (head_dim + kRowPadding));
    irregular_row = take(head_dim);
  }
};

// Consecutive rows of one sequence against one KV head. Lane n holds query head n % query_group of row
// n / query_group.
struct Block {
  const AttendCausalParams& params;
  const AttendCausalKernels& kernels;
  uint32_t slot, head, first_row, rows;
  int64_t first_position;

  uint32_t group() const { return params.cache->query_group; }
  uint32_t head_dim() const { return params.cache->head_dim; }
  uint32_t strips() const { return (rows * group() + kernels.lanes - 1) / kernels.lanes; }
  size_t offset(uint32_t lane) const { return (size_t{head} * group() + lane % group()) * head_dim(); }
  const float* query(uint32_t lane) const { return params.q.row(first_row + lane / group()) + offset(lane); }
  float* out(uint32_t lane) const { return params.out.row(first_row + lane / group()) + offset(lane); }
  // Lanes past the last row stand where the last row stands.
  int64_t position(uint32_t lane) const { return first_position + std::min(lane / group(), rows - 1); }
};

void load_queries(const Block& block, Work& work) {
  const uint32_t head_dim = block.head_dim(), lanes = block.kernels.lanes, used = block.rows * block.group();
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim)));
  for (uint32_t lane = 0; lane < block.strips() * lanes; lane++) {
    float* target = work.queries + size_t{lane / lanes} * head_dim * lanes + lane % lanes;
    const float* query = lane < used ? block.query(lane) : nullptr;
    for (uint32_t c = 0; c < head_dim; c++) target[size_t{c} * lanes] = query == nullptr ? 0.0f : query[c] * scale;
  }
  const size_t all_lanes = size_t{block.strips()} * lanes;
  std::fill_n(work.sums, all_lanes * head_dim, 0.0f);
  std::fill_n(work.total, all_lanes, 0.0f);
  std::fill_n(work.maximum, all_lanes, -std::numeric_limits<float>::infinity());
}

// Widens the records of the positions [begin, begin + count); rows from `count` on, to the next step, are zero.
void load_tile(const Block& block, int64_t begin, uint32_t count, Work& work) {
  const Cache& cache = *block.params.cache;
  const uint32_t head_dim = cache.head_dim;
  const size_t stride = head_dim + kRowPadding, record_bytes = cache.record_bytes();
  work.irregular_count = 0;
  uint32_t key = 0;
  for_each_kv_span(cache, block.slot, block.params.layer, block.head, begin, begin + count, [&](const KvSpan& span) {
    for (uint32_t i = 0; i < span.tokens; i++, key++) {
      const uint8_t* record = span.records + i * record_bytes;
      const uint8_t* value = record + record_bytes / 2;
      float* value_row = work.values + key * stride;
      const bool finite_key = block.kernels.widen(record, cache.kv_dtype, head_dim, work.keys + key * stride);
      const bool finite_value = block.kernels.widen(value, cache.kv_dtype, head_dim, value_row);
      if (finite_key && finite_value) continue;
      std::fill_n(value_row, head_dim, 0.0f);
      // No logit of a key that is not finite is finite, so nothing attends its value.
      if (finite_key) work.irregular[work.irregular_count++] = {key, value};
    }
  });
  for (; key % kCausalStep != 0; key++) {
    std::fill_n(work.keys + key * stride, head_dim, 0.0f);
    std::fill_n(work.values + key * stride, head_dim, 0.0f);
  }
}

void add_irregular_values(const Block& block, Work& work, float* sums) {
  const uint32_t lanes = block.kernels.lanes;
  for (uint32_t i = 0; i < work.irregular_count; i++) {
    const IrregularValue& irregular = work.irregular[i];
    block.kernels.widen(irregular.value, block.params.cache->kv_dtype, block.head_dim(), work.irregular_row);
    for (uint32_t lane = 0; lane < lanes; lane++) {
      const float weight = work.weights[irregular.key * lanes + lane];
      if (!(weight > 0)) continue;
      for (uint32_t c = 0; c < block.head_dim(); c++) sums[size_t{c} * lanes + lane] += weight * work.irregular_row[c];
    }
  }
}

void attend_tile(const Block& block, int64_t begin, uint32_t count, uint32_t strip, Work& work) {
  const AttendCausalKernels& kernels = block.kernels;
  const uint32_t lanes = kernels.lanes, head_dim = block.head_dim();
  const uint32_t first_lane = strip * lanes;
  if (block.position(first_lane + lanes - 1) < begin) return;
  const uint32_t key_count = (count + kCausalStep - 1) / kCausalStep * kCausalStep;
  const size_t stride = head_dim + kRowPadding;
  float* sums = work.sums + size_t{strip} * head_dim * lanes;
  kernels.logits(work.queries + size_t{strip} * head_dim * lanes, work.keys, stride, key_count, head_dim, work.weights);
  int32_t visible[kMostLanes];
  for (uint32_t lane = 0; lane < lanes; lane++) {
    const int64_t seen = block.position(first_lane + lane) + 1 - begin;
    visible[lane] = static_cast<int32_t>(std::clamp<int64_t>(seen, 0, count));
  }
  const bool all = static_cast<uint32_t>(visible[0]) == key_count;  // positions ascend, so lane 0 sees the fewest
  const CausalState state = {work.maximum + first_lane, work.total + first_lane, work.kept};
  kernels.weigh(work.weights, key_count, all ? nullptr : visible, state);
  kernels.add_values(work.weights, work.values, stride, key_count, head_dim, work.kept, sums);
  add_irregular_values(block, work, sums);
}

void store_outputs(const Block& block, const Work& work) {
  const uint32_t head_dim = block.head_dim(), lanes = block.kernels.lanes;
  for (uint32_t lane = 0; lane < block.rows * block.group(); lane++) {
    const float* sums = work.sums + size_t{lane / lanes} * head_dim * lanes + lane % lanes;
    const float total = work.total[lane];
    float* out = block.out(lane);
    for (uint32_t c = 0; c < head_dim; c++) out[c] = total > 0 ? sums[size_t{c} * lanes] / total : 0.0f;
  }
}

void run_block(const Block& block, Work& work) {
  load_queries(block, work);
  const int64_t end = block.first_position + block.rows;
  for (int64_t begin = 0; begin < end; begin += kCausalTile) {
    const uint32_t count = static_cast<uint32_t>(std::min<int64_t>(kCausalTile, end - begin));
    load_tile(block, begin, count, work);
    for (uint32_t strip = 0; strip < block.strips(); strip++) attend_tile(block, begin, count, strip, work);
  }
  store_outputs(block, work);
}

}  // namespace

const AttendCausalKernels& attend_causal_kernels(Isa isa) {
#if defined(__x86_64__) || defined(_M_X64)
  if (isa >= Isa::avx512) return attend_causal_avx512;
  if (isa >= Isa::avx2) return attend_causal_avx2;
#endif
  (void)isa;
  return attend_causal_portable;
}

void attend_causal(Runtime& runtime, const AttendCausalParams& params) {
  const Cache& cache = *params.cache;
  const int32_t slot = params.step.slot(params.first_row);
  if (slot < 0) {
    for (uint32_t r = 0; r < params.row_count; r++) {
      std::fill_n(params.out.row(params.first_row + r), size_t{cache.query_heads()} * cache.head_dim, 0.0f);
    }
    return;
  }
  const AttendCausalKernels& kernels = attend_causal_kernels(runtime.isa);
  const unsigned threads = runtime.pool.threads();
  const uint32_t group = cache.query_group;
  const auto blocks_of = [&](uint32_t block_lanes) {
    const uint32_t rows = block_lanes / group;  // at least 1: groups have at most 8 heads, strips at least 8 lanes
    return size_t{(params.row_count + rows - 1) / rows};
  };
  uint32_t block_lanes = kBlockLanes;
  while (block_lanes > kernels.lanes && blocks_of(block_lanes) * cache.kv_heads < kTasksPerThread * threads) {
    block_lanes /= 2;
  }
  const size_t blocks = blocks_of(block_lanes);
  const uint32_t block_rows = block_lanes / group;
  // A multiple of a cache line, so that no two threads share one.
  const size_t thread_floats = (Work::floats(cache.head_dim, block_lanes, kernels.lanes) + 15) / 16 * 16;
  static thread_local Scratch scratch;
  float* memory = scratch.floats(thread_floats * threads);

  // Later rows see more keys: the longest tasks begin first.
  parallel_for(runtime.pool, blocks * cache.kv_heads, [&](size_t index, unsigned thread) {
    const uint32_t number = static_cast<uint32_t>(blocks - 1 - index / cache.kv_heads);
    const uint32_t first = number * block_rows;
    const Block block = {params,
                         kernels,
                         static_cast<uint32_t>(slot),
                         static_cast<uint32_t>(index % cache.kv_heads),
                         params.first_row + first,
                         std::min(block_rows, params.row_count - first),
                         params.step.position(params.first_row) + first};
    Work work(memory + thread * thread_floats, cache.head_dim, block_lanes, kernels.lanes);
    run_block(block, work);
  });
}

}  // namespace pkv::cpu
