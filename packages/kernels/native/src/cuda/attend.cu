// attend: softmax attention at full precision over sink, ring and the selected keys, or over everything in mode dense
// (docs/mathematics.md §3). Reads every record once, for all query heads of its group: 2 * head_dim elements a token, from the
// device or from mapped host memory.
//
// A row's tokens are cut into pieces of a block each, a piece into shares of a warp each: an even share of the positions and an
// even share of the selected keys, so that all multiprocessors ask for records in host memory at once. A warp has three tiles
// of its share under way; the positions come first and are worked on while the selected keys come over the bus. The block of a
// row and KV head that is done last joins the pieces in their order.
//
// The kernel begins while the one that selects the keys ends. So the pieces follow from how many keys the row wants, and how
// many it has is asked for when the first positions are under way. Blocks that begin with the kernel are likely to wait for it:
// they first work on their positions. Later ones find the wait over and ask at once. Where a selected key's page lies has been
// looked up by then.
#include <algorithm>
#include <cmath>

#include "cuda/alignment.h"
#include "cuda/arrivals.cuh"
#include "cuda/attend_join.cuh"
#include "cuda/attend_plain.cuh"
#include "cuda/attend_row.cuh"
#include "cuda/hot_set.h"
#include "cuda/launch.h"
#include "cuda/overlap.cuh"
#include "cuda/plan_scratch.h"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

struct AttendArguments {
  Cache cache;
  Plan plan;
  AttendScratch scratch;
  Step step;
  Rows q, out;
  uint32_t layer;
  uint32_t head_blocks;     // blocks that share the pieces of one row and KV head
  uint32_t waiting_blocks;  // the first ones, which begin before the kernel in front has ended
  uint32_t page_room;       // pages of a row whose addresses a block keeps, behind its tiles
  float scale;              // 1 / sqrt(head_dim)
};

// One warp's share of a row: `softmax` over it. tiles: memory for S::stages tiles. waits: whether the selected keys are likely
// not known yet. begin(): called when the first tiles are under way.
template <class S, class Softmax, class Begin>
__device__ void attend_share(const AttendedRow& row, uint32_t share, uint32_t shares, uint8_t* tiles, uint32_t lane, bool waits,
                             Softmax& softmax, const Begin& begin) {
  constexpr uint32_t kTokens = S::tile_tokens;
  const TokenSpan positions = TokenSpan::share(row.positions, share, shares);
  const uint32_t position_tiles = positions.tiles(kTokens);
  TokenSpan selected = TokenSpan::share(row.wanted, share, shares);  // until it is known how many there are
  SelectedKey first_key{};                                           // of the first tile behind the positions
  int32_t selected_count = 0;
  uint32_t all_tiles = position_tiles;
  const auto span_of = [&](uint32_t number) {  // the tokens of a tile
    return number < position_tiles ? positions.tile(number, kTokens) : selected.tile(number - position_tiles, kTokens);
  };
  // Nearly always a row has the keys that it wants, so the first ones are asked for together with their number.
  const auto ask_for_selected = [&] {
    wait_for_predecessor();  // who selected the keys, and found places for them
    if (lane < selected.tile(0, kTokens).tokens()) first_key = row.selected_key(selected.begin + lane);
    selected_count = row.load_selected_count();
  };
  const auto find_selected = [&] {
    const uint32_t count = row.count_selected(selected_count);
    if (count != row.wanted) {
      selected = TokenSpan::share(count, share, shares);
      if (lane < selected.tile(0, kTokens).tokens()) first_key = row.selected_key(selected.begin + lane);
    }
    all_tiles += selected.tiles(kTokens);
  };
  const auto tile_of = [&](uint32_t number) { return AttendTile<S>{tiles + number % S::stages * S::tile_bytes}; };
  uint32_t fetched = 0;
  const auto fetch = [&] {
    const uint32_t number = fetched++;
    if (number == position_tiles) {
      if (waits) ask_for_selected();
      find_selected();
    }
    if (number >= all_tiles) return;
    const TokenSpan span = span_of(number);
    const uint32_t token = span.begin + lane;
    const uint8_t* record = nullptr;
    if (lane < span.tokens()) {
      if (number < position_tiles) {
        record = row.position_record(token);
      } else {
        record = row.selected_record(number == position_tiles ? first_key : row.selected_key(token));
      }
    }
    tile_of(number).fetch(reinterpret_cast<uint64_t>(record), row.cache.window, lane);
  };
#pragma unroll 1
  while (fetched < min(position_tiles, S::stages - 1)) {
    fetch();
    commit_copies();
  }
  if (!waits) ask_for_selected();
  begin();
#pragma unroll 1
  for (uint32_t number = 0;; ++number) {
    const bool positions_left = number < position_tiles;
#pragma unroll 1
    for (uint32_t next = fetched; next < number + S::stages; ++next) {
      if (!waits || !positions_left || next < position_tiles) fetch();
      commit_copies();  // a group a tile, also where none is fetched
    }
    if (number >= all_tiles) break;
    await_copies<S::stages - 1>();
    __syncwarp();  // every lane has its part of this tile
    const TokenSpan span = span_of(number);
    const AttendTile<S> tile = tile_of(number);
    softmax.add(tile, span.tokens(), lane);
    if (!positions_left && row.places != nullptr) {
      // What is to stay on the device goes there from here.
      uint8_t* const own_line = lane < span.tokens() ? row.line_to_fill(span.begin + lane) : nullptr;
      for (uint32_t left = __ballot_sync(0xffffffffu, own_line != nullptr); left != 0; left &= left - 1) {
        const uint32_t token = __ffs(left) - 1;
        const uint64_t line = __shfl_sync(0xffffffffu, reinterpret_cast<uint64_t>(own_line), token);
        tile.store(token, reinterpret_cast<uint8_t*>(line), lane);
      }
    }
    __syncwarp();  // every lane is done with this tile
  }
}

// One warp's share, and its result into WarpResult unless the softmax does not hold. finds_pages: fills the row's page_records
// on the way, which then all warps of the block do.
template <class S, class Softmax>
__device__ bool attend_warp(const AttendArguments& a, const AttendedRow& row, const float* queries, uint32_t share,
                            uint32_t shares, uint8_t* shared, uint32_t warp, uint32_t lane, bool finds_pages) {
  Softmax softmax;
  attend_share<S>(row, share, shares, shared + warp * S::warp_bytes, lane, blockIdx.x < a.waiting_blocks, softmax, [&] {
    AttendedRow::PageLookup<S::threads> pages;
    if (finds_pages) pages.begin(row);
    softmax.begin(queries, a.cache.query_group, a.scale, lane);
    if (!finds_pages) return;
    pages.end(row);
    __syncthreads();
  });
  if (!softmax.holds()) return false;
  WarpResult<S>& result = WarpResult<S>::of(shared, warp);
  softmax.end(
      lane, [&](uint32_t head, uint32_t coordinate, float value) { result.output[head][coordinate] = value; },
      [&](uint32_t head, float maximum, float sum) {
        result.maximum[head] = maximum;
        result.sum[head] = sum;
      });
  return true;
}

// Grid: [head_blocks, rows, KV heads]. Blocks without a piece come last, so that the others lie on different multiprocessors.
template <class S>
__global__ void __launch_bounds__(S::threads, 2) attend_kernel(const __grid_constant__ AttendArguments a) {
  // Copies of a line of 128 bytes to less aligned memory are split, and what they read over the bus is read twice.
  extern __shared__ __align__(128) uint8_t shared[];
  const Cache& cache = a.cache;
  const uint32_t heads = a.step.row_count * cache.kv_heads;
  const uint32_t row_head = blockIdx.x % heads, block = blockIdx.x / heads;
  const uint32_t row = row_head / cache.kv_heads, head = row_head % cache.kv_heads;
  const uint32_t query_group = cache.query_group;
  const size_t out_offset = size_t{head} * query_group * S::head_dim;
  const int32_t position = load_early(a.step.table + size_t{row} * PKV_ROW_FIELDS + PKV_ROW_POSITION);
  const StepRow step_row(cache, a.plan, a.layer, a.step, row);
  const int32_t slot = step_row.slot;
  const int32_t zone_tokens = load_early(cache.zone_tokens + max(slot, 0));
  if (slot < 0) {
    wait_for_predecessor();
    for (uint32_t i = threadIdx.x; block == 0 && i < query_group * S::head_dim; i += S::threads) {
      a.out.row(row)[out_offset + i] = 0.0f;
    }
    return;
  }
  const AttendedRow attended(a.plan, cache, a.layer, row_head, head, step_row, zone_tokens, position, a.scratch.places,
                             reinterpret_cast<uint64_t*>(shared + S::shared_bytes), a.page_room);
  // A row that has fewer keys than it wants has pieces with less to do; one without any joins as nothing.
  const uint32_t pieces = a.scratch.pieces(attended.positions + attended.wanted);

  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float* const partials = a.scratch.partials + size_t{row_head} * a.scratch.most_pieces * a.scratch.piece_floats;
  for (uint32_t piece = block; piece < pieces; piece += a.head_blocks) {
    const float* const queries = a.q.row(row) + out_offset;
    const uint32_t share = piece * S::warps + warp, shares = pieces * S::warps;
    const bool finds_pages = piece == block && attended.keeps_pages;
    using Plain = PlainSoftmax<S>;
    if constexpr (S::dtype == Dtype::f32) {
      attend_warp<S, Plain>(a, attended, queries, share, shares, shared, warp, lane, finds_pages);
    } else if (!attend_warp<S, MatrixSoftmax<S>>(a, attended, queries, share, shares, shared, warp, lane, finds_pages)) {
      attend_warp<S, Plain>(a, attended, queries, share, shares, shared, warp, lane, false);
    }
    __syncthreads();
    wait_for_predecessor();
    write_piece<S>(shared, query_group, partials + size_t{piece} * a.scratch.piece_floats);
    __syncthreads();
  }
  wait_for_predecessor();
  let_successor_begin();
  if (block >= pieces) return;

  if (!arrives_last(a.scratch.arrivals + row_head, min(pieces, a.head_blocks))) return;
  join_pieces<S>(partials, a.scratch.piece_floats, pieces, query_group, step_row.mode == PKV_MODE_DENSE, shared,
                 a.out.row(row) + out_offset, a.plan.stats + size_t{row_head} * query_group * PKV_STATS_FIELDS);
}

// Pages whose addresses a block may keep, so that no fewer blocks than without them fit on a multiprocessor.
template <class S>
uint32_t page_room(const Runtime& runtime, const Cache& cache) {
  constexpr size_t kSystemBytes = 1 << 10;            // of every block, beside what it asks for
  constexpr size_t kBlockBytes = kSystemBytes + 128;  // and what the kernel declares, up to where its tiles begin
  const size_t all_bytes = runtime.shared_bytes + kSystemBytes;
  const size_t fit = all_bytes / (kBlockBytes + S::shared_bytes);
  const size_t blocks = std::clamp<size_t>(fit, 1, tuning::attend_blocks_a_multiprocessor);
  const size_t bytes = all_bytes / blocks, used_bytes = kBlockBytes + S::shared_bytes;
  const size_t pages = bytes > used_bytes ? (bytes - used_bytes) / sizeof(uint64_t) : 0;
  return static_cast<uint32_t>(std::min<size_t>({pages, cache.max_pages, AttendedRow::PageLookup<S::threads>::most_pages}));
}

template <class S>
void launch_attend(const Runtime& runtime, AttendArguments arguments) {
  const uint32_t heads = arguments.step.row_count * arguments.cache.kv_heads;
  const bool overlaps = arguments.scratch.places != nullptr || runtime.in_front == Verb::rerank;
  if (overlaps && runtime.compute_capability >= 90) {
    arguments.waiting_blocks = tuning::attend_blocks_a_multiprocessor * runtime.multiprocessors;
  }
  arguments.page_room = page_room<S>(runtime, arguments.cache);
  const size_t shared_bytes = S::shared_bytes + arguments.page_room * sizeof(uint64_t);
  launch(runtime, "attend", attend_kernel<S>,
         {heads * arguments.head_blocks, S::threads, shared_bytes, 1, overlaps, MemoryDivision::most_shared}, arguments);
}

template <uint32_t kHeadDim, Dtype kDtype>
void launch_attend(const Runtime& runtime, const AttendArguments& arguments) {
  if (arguments.cache.query_group <= 4) return launch_attend<AttendShape<kHeadDim, kDtype, 4>>(runtime, arguments);
  return launch_attend<AttendShape<kHeadDim, kDtype, 8>>(runtime, arguments);
}

template <uint32_t kHeadDim>
void launch_attend(const Runtime& runtime, const AttendArguments& arguments) {
  switch (arguments.cache.kv_dtype) {
    case Dtype::f32: return launch_attend<kHeadDim, Dtype::f32>(runtime, arguments);
    case Dtype::bf16: return launch_attend<kHeadDim, Dtype::bf16>(runtime, arguments);
    case Dtype::f16: return launch_attend<kHeadDim, Dtype::f16>(runtime, arguments);
  }
}

}  // namespace

void attend(Runtime& runtime, const AttendParams& params) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  require_vectors(cache);
  const AttendScratch scratch(plan);
  const uint32_t heads = params.step.row_count * cache.kv_heads;
  const uint32_t most_blocks = tuning::attend_waves * tuning::attend_blocks_a_multiprocessor * runtime.multiprocessors;
  const AttendArguments arguments{cache,    plan,       scratch,      params.step,
                                  params.q, params.out, params.layer, min(max(most_blocks / heads, 1u), scratch.most_pieces),
                                  0,        0,          1.0f / std::sqrt(static_cast<float>(cache.head_dim))};
  if (scratch.places != nullptr) find_hot_places(runtime, params, scratch.places);
  switch (cache.head_dim) {
    case 64: return launch_attend<64>(runtime, arguments);
    case 128: return launch_attend<128>(runtime, arguments);
    default: return launch_attend<256>(runtime, arguments);
  }
}

}  // namespace pkv::cuda
