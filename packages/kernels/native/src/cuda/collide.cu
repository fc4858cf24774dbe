// collide: the votes of every key of the retrieval zone (algorithm.md §3). Reads the ids plane, one byte a key and subspace,
// and writes two bytes a key.
// The look-ups go to shared memory, where 32 lanes with random ids would wait for each other's banks. So a table is kept in
// as many copies as fit, word by word side by side, and lane l looks into copy l % copies: with 32 copies every lane has a
// bank of its own. Up to four tables share a word, one byte each, and are added up at once.
#include "cuda/launch.h"
#include "cuda/memory.cuh"
#include "cuda/step_rows.cuh"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

constexpr uint32_t kWarp = 32;
constexpr uint32_t kThreads = tuning::collide_threads;
constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr uint32_t kLaneKeys = 4;                      // one u32 of ids
constexpr uint32_t kWarpKeys = kWarp * kLaneKeys;      // a quarter of a page
constexpr uint32_t kPageWarps = PKV_PAGE_TOKENS / kWarpKeys;
constexpr uint32_t kTeams = kThreads / kWarp / kPageWarps;  // pages that a block scores at a time
constexpr uint32_t kWordTables = 4;
constexpr uint32_t kPackedSubspaces = 4;
static_assert(PKV_MAX_VOTE * kPackedSubspaces <= 255, "votes of four subspaces add up within a byte");
static_assert(PKV_SCORE_BINS <= 65536, "votes of all subspaces add up within 16 bits");

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

  // Adds the votes of `kCount` subspaces from `first` on; ids[b] holds those of the four keys. own: this lane's copy.
  template <uint32_t kCount>
  __device__ void add(const uint32_t (&ids)[kCount], const uint32_t* own, uint32_t first) {
    const uint32_t* const tables = own + first * Layout::words * Layout::copies;
    if constexpr (Layout::one_table) {
#pragma unroll
      for (uint32_t b = 0; b < kCount; ++b) {
#pragma unroll
        for (uint32_t key = 0; key < kLaneKeys; ++key) {
          const uint32_t id = ids[b] >> 8 * key & 0xff;
          const uint32_t word = tables[(b * Layout::words + id / 4) * Layout::copies];
          one[key] += __byte_perm(word, 0, 0x4440 | (id & 3));
        }
      }
    } else {
#pragma unroll
      for (uint32_t group = 0; group < Layout::groups; ++group) {
#pragma unroll
        for (uint32_t at = 0; at < kCount; at += kPackedSubspaces) {
#pragma unroll
          for (uint32_t key = 0; key < kLaneKeys; ++key) {
            uint32_t packed = 0;
#pragma unroll
            for (uint32_t b = at; b < at + kPackedSubspaces; ++b) {
              const uint32_t id = ids[b] >> 8 * key & 0xff;
              packed += tables[group * Layout::group_words + (b * Layout::words + id) * Layout::copies];
            }
            even[group][key] += packed & 0x00ff00ff;
            odd[group][key] += packed >> 8 & 0x00ff00ff;
          }
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
  Step step;
  uint32_t layer;
  uint32_t head_blocks;  // blocks that share the pages of one row and KV head
};

// Grid: head_blocks for each row and KV head. A team of four warps scores a page at a time.
template <uint32_t kHeadDim, uint32_t kGroups, uint32_t kBytes>
__global__ void __launch_bounds__(kThreads, 1) collide_kernel(const __grid_constant__ CollideArguments a) {
  using Layout = TableLayout<kHeadDim, kGroups, kBytes>;
  constexpr uint32_t kStepSubspaces = 8;  // 32 bytes in flight a lane, 32 KiB a multiprocessor
  constexpr uint32_t kPageSteps = Layout::subspaces / kStepSubspaces;
  extern __shared__ uint4 shared_memory[];
  uint32_t* const shared = reinterpret_cast<uint32_t*>(shared_memory);

  const uint32_t row_head = blockIdx.x / a.head_blocks, block = blockIdx.x % a.head_blocks;
  const uint32_t row = row_head / a.cache.kv_heads, head = row_head % a.cache.kv_heads;
  if (row_mode(a.cache, a.layer, a.step, row) != PKV_MODE_VOTE) return;
  const int32_t slot = a.step.slot(row);
  const uint32_t tokens = plan_zone_tokens(a.cache, a.plan, slot);
  const uint32_t pages = (tokens + PKV_PAGE_TOKENS - 1) / PKV_PAGE_TOKENS;
  if (block >= pages) return;
  fill_tables<Layout>(a.plan.vote_tables + size_t{row_head} * a.plan.tables * Layout::subspaces * PKV_CENTROIDS, a.plan.tables,
                      shared);
  __syncthreads();

  const uint32_t lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const uint32_t first_page = block + a.head_blocks * (warp / kPageWarps), page_stride = a.head_blocks * kTeams;
  const uint32_t row_in_page = warp % kPageWarps * kWarpKeys + lane * kLaneKeys;
  if (first_page >= pages) return;
  const uint32_t own_pages = (pages - first_page + page_stride - 1) / page_stride;
  const bool has_invalid = a.cache.invalid_keys[head_entry(a.cache, slot, a.layer, head)] > 0;
  const bool whole_stores = a.plan.max_zone_tokens % kLaneKeys == 0;
  uint16_t* const scores = a.plan.scores + size_t{row_head} * a.plan.max_zone_tokens;
  const uint32_t* const own_copy = shared + lane % Layout::copies;

  // Lane l holds the address of page number l of the 32 that come next, so that only one in 32 pages waits for the tables.
  uint64_t addresses = 0;
  const auto summary_of = [&](uint32_t number) {
    if (number % kWarp == 0) {
      const uint32_t mine = min(number + lane, own_pages - 1);
      const uint32_t page = page_of(a.cache, slot, (first_page + mine * page_stride) * PKV_PAGE_TOKENS);
      addresses = reinterpret_cast<uint64_t>(a.cache.summary_of(page, a.layer, head));
    }
    return reinterpret_cast<const uint8_t*>(__shfl_sync(kAllLanes, addresses, number % kWarp));
  };
  const auto load_ids = [&](const uint8_t* summary, uint32_t step, uint32_t (&ids)[kStepSubspaces]) {
    const uint8_t* const from = summary + step * kStepSubspaces * PKV_PAGE_TOKENS + row_in_page;
#pragma unroll
    for (uint32_t b = 0; b < kStepSubspaces; ++b) ids[b] = load_once(reinterpret_cast<const uint32_t*>(from + b * PKV_PAGE_TOKENS));
  };

  const uint8_t* summary = summary_of(0);
  uint32_t ids[kStepSubspaces];
  load_ids(summary, 0, ids);
  for (uint32_t number = 0; number < own_pages; ++number) {
    const uint8_t* const current = summary;
    Sums<Layout> sums;
    sums.clear();
#pragma unroll
    for (uint32_t step = 0; step < kPageSteps; ++step) {
      uint32_t next[kStepSubspaces] = {};
      if (step + 1 < kPageSteps) {
        load_ids(current, step + 1, next);
      } else if (number + 1 < own_pages) {
        summary = summary_of(number + 1);
        load_ids(summary, 0, next);
      }
      sums.add(ids, own_copy, step * kStepSubspaces);
#pragma unroll
      for (uint32_t b = 0; b < kStepSubspaces; ++b) ids[b] = next[b];
    }
    uint32_t values[kLaneKeys];
#pragma unroll
    for (uint32_t key = 0; key < kLaneKeys; ++key) values[key] = sums.score(key);
    if (has_invalid) {
      const uint8_t* const codes = current + size_t{PKV_PAGE_TOKENS} * Layout::subspaces;
#pragma unroll
      for (uint32_t key = 0; key < kLaneKeys; ++key) {
        if (is_invalid_key(codes + size_t{row_in_page + key} * (kHeadDim / 2), kHeadDim / 2)) values[key] = PKV_NO_SCORE;
      }
    }
    const uint32_t token = (first_page + number * page_stride) * PKV_PAGE_TOKENS + row_in_page;
    if (whole_stores && token + kLaneKeys <= tokens) {
      *reinterpret_cast<uint2*>(scores + token) = make_uint2(values[0] | values[1] << 16, values[2] | values[3] << 16);
    } else {
#pragma unroll
      for (uint32_t key = 0; key < kLaneKeys; ++key) {
        if (token + key < tokens) scores[token + key] = static_cast<uint16_t>(values[key]);
      }
    }
  }
}

template <uint32_t kHeadDim, uint32_t kGroups, uint32_t kBytes>
void launch_collide(const Runtime& runtime, const CollideArguments& arguments) {
  const uint32_t heads = arguments.step.row_count * arguments.cache.kv_heads;
  launch(runtime, "collide", collide_kernel<kHeadDim, kGroups, kBytes>,
         {heads * arguments.head_blocks, kThreads, TableLayout<kHeadDim, kGroups, kBytes>::bytes}, arguments);
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
  const Cache& cache = *params.plan->cache;
  const uint32_t heads = params.step.row_count * cache.kv_heads;
  const uint32_t most_blocks = (params.plan->max_zone_tokens + PKV_PAGE_TOKENS - 1) / PKV_PAGE_TOKENS;
  const CollideArguments arguments{cache, *params.plan, params.step, params.layer,
                                   min(blocks_a_head(runtime, heads), most_blocks)};
  switch (cache.head_dim) {
    case 64: return launch_collide<64>(runtime, arguments);
    case 128: return launch_collide<128>(runtime, arguments);
    default: return launch_collide<256>(runtime, arguments);
  }
}

}  // namespace pkv::cuda
