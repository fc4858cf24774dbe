// collide: the votes of every key of the retrieval zone (algorithm.md §3). Reads the ids plane, one byte a key and subspace,
// and writes two bytes a key; on the way it counts the scores of each span for select (spans.cuh).
// The look-ups go to shared memory, where 32 lanes with random ids would wait for each other's banks. So a table is kept in
// as many copies as fit, word by word side by side, and lane l looks into copy l % copies: with 32 copies every lane has a
// bank of its own. Up to four tables share a word, one byte each, and are added up at once.
#include "cuda/launch.h"
#include "cuda/memory.cuh"
#include "cuda/overlap.cuh"
#include "cuda/spans.cuh"
#include "cuda/step_rows.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kWarp = 32;
constexpr uint32_t kThreads = tuning::collide_threads;
static_assert(kThreads == kBlockThreads, "the block's counts are its own threads' work");
constexpr uint32_t kLaneKeys = 4;                      // one u32 of ids
constexpr uint32_t kWarpKeys = kWarp * kLaneKeys;      // a quarter of a page
constexpr uint32_t kPageWarps = PKV_PAGE_TOKENS / kWarpKeys;
constexpr uint32_t kTeams = kThreads / kWarp / kPageWarps;  // pages that a block scores at a time
constexpr uint32_t kWordTables = 4;
constexpr uint32_t kPackedSubspaces = 4;
static_assert(PKV_MAX_VOTE * kPackedSubspaces <= 255, "votes of four subspaces add up within a byte");
static_assert(PKV_SCORE_BINS < kCountBins, "every score has a bin");

// How the tables lie in shared memory: [subspaces, words, copies] u32 for each group of up to four tables. With one table a
// word holds the votes of four neighbouring ids, else one id's votes in four tables.
template <uint32_t kHeadDim, uint32_t kGroups, uint32_t kBytes>
struct TableLayout {
  static constexpr bool one_table = kGroups == 0;
  static constexpr uint32_t groups = one_table ? 1 : kGroups;
  static constexpr uint32_t subspaces = kHeadDim / PKV_SUBSPACE_DIM;
  static constexpr uint32_t words = one_table ? PKV_CENTROIDS / 4 : PKV_CENTROIDS;
  static constexpr uint32_t most_copies = kBytes / (groups * subspaces * words * sizeof(uint32_t));
  static constexpr uint32_t copies = most_copies < kWarp ? most_copies : kWarp;
  static constexpr uint32_t group_words = subspaces * words * copies;
  static constexpr uint32_t bytes = groups * group_words * sizeof(uint32_t);
  static_assert(copies > 0 && (copies & (copies - 1)) == 0, "copies are a power of two");
};

// Every word of a table goes to its copies, by as many threads as make 16-byte stores of it (or one, with fewer copies).
template <uint32_t kCopies>
__device__ void store_copies(uint32_t* to, uint32_t word, uint32_t part) {
  if constexpr (kCopies >= 4) {
    reinterpret_cast<uint4*>(to)[part] = make_uint4(word, word, word, word);
  } else {
#pragma unroll
    for (uint32_t copy = 0; copy < kCopies; ++copy) to[copy] = word;
  }
}

// tables: [table_count, subspaces, 256] u8. Missing tables of a group count as zeros.
template <class Layout>
__device__ void fill_tables(const uint8_t* tables, uint32_t table_count, uint32_t* shared) {
  constexpr uint32_t kParts = Layout::copies >= 4 ? Layout::copies / 4 : 1;
  constexpr uint32_t kQuads = Layout::subspaces * PKV_CENTROIDS / 4;  // four neighbouring ids each
  constexpr uint32_t kTableWords = kQuads;
  const uint32_t* const source = reinterpret_cast<const uint32_t*>(tables);
#pragma unroll 2  // the ids under way take registers
  for (uint32_t i = threadIdx.x; i < Layout::groups * kQuads * kParts; i += kThreads) {
    const uint32_t part = i % kParts, quad = i / kParts % kQuads, group = i / kParts / kQuads;
    if constexpr (Layout::one_table) {
      store_copies<Layout::copies>(shared + quad * Layout::copies, source[quad], part);
    } else {
      uint32_t votes[kWordTables];
#pragma unroll
      for (uint32_t t = 0; t < kWordTables; ++t) {
        const uint32_t table = group * kWordTables + t;
        votes[t] = table < table_count ? source[size_t{table} * kTableWords + quad] : 0;
      }
      uint32_t* const to = shared + group * Layout::group_words + quad * 4 * Layout::copies;
#pragma unroll
      for (uint32_t id = 0; id < 4; ++id) {
        const uint32_t pick = id | (id + 4) << 4;  // byte `id` of the one and of the other
        const uint32_t low = __byte_perm(votes[0], votes[1], pick), high = __byte_perm(votes[2], votes[3], pick);
        store_copies<Layout::copies>(to + id * Layout::copies, __byte_perm(low, high, 0x5410), part);
      }
    }
  }
}

// Where the votes of four keys lie in one table, [words, copies] u32 of four neighbouring ids each: byte id % 4 of word
// number id / 4 * copies + copy. The offset of each key is put together from two bytes that are made for all four at once,
// which takes half the instructions of four keys one by one.
template <uint32_t kCopies>
struct ByteOffsets {
  // id / 4 begins at bit kRowShift of the offset, the copy at bit 2.
  static constexpr uint32_t kRowShift = kCopies == 32 ? 7 : kCopies == 16 ? 6 : kCopies == 8 ? 5 : 4;
  static_assert(4 * kCopies == 1u << kRowShift, "from 4 to 32 copies");
  static constexpr uint32_t kAllKeys = 0x01010101;
  static constexpr uint32_t kIdInLow = (0xffu << kRowShift & 0xff) * kAllKeys, kIdInHigh = (0xff >> (10 - kRowShift)) * kAllKeys;
  uint32_t low, high;

  __device__ ByteOffsets(uint32_t ids, uint32_t copy)
      : low((ids & 3 * kAllKeys) | (ids << (kRowShift - 2) & kIdInLow) | copy * 4 * kAllKeys),
        high(ids >> (10 - kRowShift) & kIdInHigh) {}

  template <uint32_t kKey>
  __device__ uint32_t of_key() const {
    // Byte kKey of `low`, then of `high`; above them the latter's sign twice, which is 0.
    constexpr uint32_t kPick = kKey | (4 + kKey) << 4 | (12 + kKey) << 8 | (12 + kKey) << 12;
    uint32_t offset;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(offset) : "r"(low), "r"(high), "n"(kPick));
    return offset;
  }
};

// The running scores of a lane's four keys.
template <class Layout>
struct Sums {
  uint32_t one[kLaneKeys];                                                  // with one table
  uint32_t even[Layout::groups][kLaneKeys], odd[Layout::groups][kLaneKeys];  // else two tables in a word, 16 bits each

  __device__ void clear() {
#pragma unroll
    for (uint32_t key = 0; key < kLaneKeys; ++key) {
      one[key] = 0;
#pragma unroll
      for (uint32_t group = 0; group < Layout::groups; ++group) even[group][key] = odd[group][key] = 0;
    }
  }

  // Adds the votes of four subspaces from `first` on; ids[b] holds those of the four keys. tables: shared memory.
  __device__ void add(const uint32_t (&ids)[kPackedSubspaces], const uint32_t* tables, uint32_t first) {
    const uint32_t copy = threadIdx.x % Layout::copies;
    if constexpr (Layout::one_table) {
      const uint8_t* const bytes = reinterpret_cast<const uint8_t*>(tables + first * Layout::words * Layout::copies);
#pragma unroll
      for (uint32_t b = 0; b < kPackedSubspaces; ++b) {
        const ByteOffsets<Layout::copies> offsets(ids[b], copy);
        const uint8_t* const table = bytes + b * Layout::words * Layout::copies * sizeof(uint32_t);
        one[0] += table[offsets.template of_key<0>()];
        one[1] += table[offsets.template of_key<1>()];
        one[2] += table[offsets.template of_key<2>()];
        one[3] += table[offsets.template of_key<3>()];
      }
    } else {
#pragma unroll
      for (uint32_t group = 0; group < Layout::groups; ++group) {
        const uint32_t* const own = tables + group * Layout::group_words + first * Layout::words * Layout::copies + copy;
#pragma unroll
        for (uint32_t key = 0; key < kLaneKeys; ++key) {
          uint32_t packed = 0;
#pragma unroll
          for (uint32_t b = 0; b < kPackedSubspaces; ++b) {
            const uint32_t id = ids[b] >> 8 * key & 0xff;
            packed += own[(b * Layout::words + id) * Layout::copies];
          }
          even[group][key] += packed & 0x00ff00ff;
          odd[group][key] += packed >> 8 & 0x00ff00ff;
        }
      }
    }
  }

  // The largest over the tables.
  __device__ uint32_t score(uint32_t key) const {
    if constexpr (Layout::one_table) return one[key];
    uint32_t best = 0;
#pragma unroll
    for (uint32_t group = 0; group < Layout::groups; ++group) {
      const uint32_t pair = __vmaxu2(even[group][key], odd[group][key]);
      best = max(best, max(pair & 0xffff, pair >> 16));
    }
    return best;
  }
};

struct CollideArguments {
  Cache cache;
  Plan plan;
  VoteScratch scratch;
  Step step;
  uint32_t layer;
  uint32_t spans;  // of each row and KV head
};

// Grid: a block for each span of each row and KV head. A team of four warps scores a page at a time.
template <uint32_t kHeadDim, uint32_t kGroups, uint32_t kBytes>
__global__ void __launch_bounds__(kThreads, 1) collide_kernel(const __grid_constant__ CollideArguments a) {
  using Layout = TableLayout<kHeadDim, kGroups, kBytes>;
  // Their ids are in flight at a time, 64 bytes a lane; several tables take the registers.
  constexpr uint32_t kStepSubspaces = Layout::one_table && Layout::subspaces >= 16 ? 16 : 8;
  constexpr uint32_t kPageSteps = Layout::subspaces / kStepSubspaces;
  extern __shared__ uint4 shared_memory[];
  uint32_t* const tables = reinterpret_cast<uint32_t*>(shared_memory);
  __shared__ uint32_t counts[kCountBins];
  __shared__ uint32_t warp_totals[kBlockWarps];

  for (uint32_t bin = threadIdx.x; bin < kCountBins; bin += kThreads) counts[bin] = 0;
  begin_overlapped();
  const uint32_t row_head = blockIdx.x / a.spans, number = blockIdx.x % a.spans;
  const uint32_t row = row_head / a.cache.kv_heads, head = row_head % a.cache.kv_heads;
  const bool votes = row_mode(a.cache, a.layer, a.step, row) == PKV_MODE_VOTE;
  if (number == 0 && threadIdx.x == 0) a.scratch.counted_spans[row_head] = votes ? a.spans : 0;
  if (!votes) return;
  const int32_t slot = a.step.slot(row);
  const uint32_t tokens = plan_zone_tokens(a.cache, a.plan, slot);
  const Span span = span_of(tokens, PKV_PAGE_TOKENS, a.spans, number);
  const uint32_t pages = (span.end - span.begin + PKV_PAGE_TOKENS - 1) / PKV_PAGE_TOKENS;

  const uint32_t lane = threadIdx.x % kWarp, team = threadIdx.x / kWarp / kPageWarps;
  const uint32_t own_pages = team < pages ? (pages - team + kTeams - 1) / kTeams : 0;
  const uint32_t row_in_page = threadIdx.x % (kPageWarps * kWarp) * kLaneKeys;

  // Lane l holds the address of page number l of the warp's 32 that come next: only one in 32 waits for the page tables.
  uint64_t addresses = 0;
  const auto rows_of = [&](uint32_t own) {  // the ids of this lane's keys in the first subspace of page number `own`
    if (own % kWarp == 0) {
      const uint32_t ahead = min(lane, own_pages - 1 - own) * kTeams * PKV_PAGE_TOKENS;
      const uint32_t page = page_of(a.cache, slot, span.begin + (team + own * kTeams) * PKV_PAGE_TOKENS + ahead);
      addresses = reinterpret_cast<uint64_t>(a.cache.summary_of(page, a.layer, head));
    }
    return reinterpret_cast<const uint8_t*>(__shfl_sync(kAllLanes, addresses, own % kWarp)) + row_in_page;
  };
  const auto load_ids = [&](const uint8_t* rows, uint32_t b) {
    return load_once(reinterpret_cast<const uint32_t*>(rows + b * PKV_PAGE_TOKENS));
  };

  // The first ids are on their way while the tables are filled.
  const uint8_t* rows = nullptr;
  uint32_t ids[kStepSubspaces] = {};
  if (own_pages > 0) {
    rows = rows_of(0);
#pragma unroll
    for (uint32_t b = 0; b < kStepSubspaces; ++b) ids[b] = load_ids(rows, b);
  }
  if (pages > 0) {
    fill_tables<Layout>(a.plan.vote_tables + size_t{row_head} * a.plan.tables * Layout::subspaces * PKV_CENTROIDS,
                        a.plan.tables, tables);
  }
  const bool has_invalid = a.cache.invalid_keys[head_entry(a.cache, slot, a.layer, head)] > 0;
  // Of this lane's four keys: where their scores go, and how many tokens there are from the first one on.
  const uint32_t first_token = span.begin + team * PKV_PAGE_TOKENS + row_in_page;
  uint16_t* scores = a.plan.scores + size_t{row_head} * a.plan.max_zone_tokens + first_token;
  int32_t tokens_left = static_cast<int32_t>(tokens) - static_cast<int32_t>(first_token);
  __syncthreads();

  for (uint32_t own = 0; own < own_pages; ++own) {
    const uint8_t* const current = rows;
    const bool is_last = own + 1 == own_pages;
    if (!is_last) rows = rows_of(own + 1);
    Sums<Layout> sums;
    sums.clear();
#pragma unroll
    for (uint32_t step = 0; step < kPageSteps; ++step) {
      const bool page_goes_on = step + 1 < kPageSteps;
#pragma unroll
      for (uint32_t b = 0; b < kStepSubspaces; b += kPackedSubspaces) {
        const uint32_t now[kPackedSubspaces] = {ids[b], ids[b + 1], ids[b + 2], ids[b + 3]};
        sums.add(now, tables, step * kStepSubspaces + b);
#pragma unroll
        for (uint32_t i = b; i < b + kPackedSubspaces; ++i) {
          if (page_goes_on) {
            ids[i] = load_ids(current, (step + 1) * kStepSubspaces + i);
          } else if (!is_last) {
            ids[i] = load_ids(rows, i);
          }
        }
      }
    }
    uint32_t values[kLaneKeys];
#pragma unroll
    for (uint32_t key = 0; key < kLaneKeys; ++key) values[key] = sums.score(key);
    if (has_invalid) {
      const uint32_t code_bytes = a.cache.head_dim / 2;
      const uint8_t* const codes = current - row_in_page + PKV_PAGE_TOKENS * Layout::subspaces + row_in_page * code_bytes;
      uint32_t invalid = 0;
#pragma unroll 1  // rare: not worth registers
      for (uint32_t key = 0; key < kLaneKeys; ++key) {
        if (is_invalid_key(codes + key * code_bytes, code_bytes)) invalid |= 1u << key;
      }
#pragma unroll
      for (uint32_t key = 0; key < kLaneKeys; ++key) values[key] = (invalid >> key & 1) != 0 ? PKV_NO_SCORE : values[key];
    }
#pragma unroll
    for (int32_t key = 0; key < static_cast<int32_t>(kLaneKeys); ++key) {
      if (key < tokens_left && values[key] != PKV_NO_SCORE) atomicAdd(&counts[values[key]], 1);
    }
    if (a.plan.max_zone_tokens % kLaneKeys == 0 && tokens_left >= static_cast<int32_t>(kLaneKeys)) {
      *reinterpret_cast<uint2*>(scores) = make_uint2(values[0] | values[1] << 16, values[2] | values[3] << 16);
    } else {
#pragma unroll
      for (int32_t key = 0; key < static_cast<int32_t>(kLaneKeys); ++key) {
        if (key < tokens_left) scores[key] = static_cast<uint16_t>(values[key]);
      }
    }
    scores += kTeams * PKV_PAGE_TOKENS;
    tokens_left -= static_cast<int32_t>(kTeams * PKV_PAGE_TOKENS);
  }
  __syncthreads();
  write_reaching(counts, warp_totals, a.scratch.score_counts + size_t{blockIdx.x} * kCountBins);
}

template <uint32_t kHeadDim, uint32_t kGroups, uint32_t kBytes>
void launch_collide(const Runtime& runtime, const CollideArguments& arguments) {
  const uint32_t heads = arguments.step.row_count * arguments.cache.kv_heads;
  launch(runtime, "collide", collide_kernel<kHeadDim, kGroups, kBytes>,
         {heads * arguments.spans, kThreads, TableLayout<kHeadDim, kGroups, kBytes>::bytes, 1, true}, arguments);
}

template <uint32_t kHeadDim, uint32_t kBytes>
void launch_collide(const Runtime& runtime, const CollideArguments& arguments) {
  const uint32_t tables = arguments.plan.tables;
  if (tables == 1) return launch_collide<kHeadDim, 0, kBytes>(runtime, arguments);
  if (tables <= kWordTables) return launch_collide<kHeadDim, 1, kBytes>(runtime, arguments);
  return launch_collide<kHeadDim, 2, kBytes>(runtime, arguments);
}

template <uint32_t kHeadDim>
void launch_collide(const Runtime& runtime, const CollideArguments& arguments) {
  if (runtime.shared_bytes >= tuning::collide_table_bytes) {
    return launch_collide<kHeadDim, tuning::collide_table_bytes>(runtime, arguments);
  }
  return launch_collide<kHeadDim, tuning::collide_small_table_bytes>(runtime, arguments);
}

}  // namespace

void collide(Runtime& runtime, const StageParams& params) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  const CollideArguments arguments{cache,       plan,         VoteScratch(plan),
                                   params.step, params.layer, score_spans(plan, params.step.row_count)};
  switch (cache.head_dim) {
    case 64: return launch_collide<64>(runtime, arguments);
    case 128: return launch_collide<128>(runtime, arguments);
    default: return launch_collide<256>(runtime, arguments);
  }
}

}  // namespace pkv::cuda
