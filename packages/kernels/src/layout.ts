/**
 * Constants and field orders that TypeScript and native code share. `tools/spec-header.mjs` prints this file and the
 * quantizer's `spec.ts` into `native/include/pkv_spec.h`; a fingerprint is compared when the addon loads.
 */

/** Version of the C ABI; raised with every change of `native/include/pkv.h`. */
export const ABI_VERSION = 3;

/** Element types of weights and of K and V. */
export const DTYPE = { F32: 0, BF16: 1, F16: 2 } as const;

/** Kinds of memory: on the device; page-locked host memory; page-locked and readable by the device in place. */
export const MEMORY = { DEVICE: 0, PINNED: 1, MAPPED: 2 } as const;

/** Ladder of a (slot, layer): everything, estimate every key, or votes first (docs/mathematics.md §3). */
export const MODE = { DENSE: 0, SCAN: 1, VOTE: 2 } as const;

/** How a KV head's votes are made from the rotated query (docs/mathematics.md §3). */
export const VOTES = { TIERED: 0, GRADED: 1 } as const;

/** How the query heads of a query group are combined (docs/mathematics.md §4). */
export const GROUP = { MEAN: 0, MAX: 1, SUM: 2 } as const;

/** Fields of one entry of the budget table `[slots, layers, BUDGET_FIELDS] i32`; TIER_0 begins six tier thresholds. */
export const BUDGET = { MODE: 0, CANDIDATES: 1, TOP_K: 2, TIER_0: 3 } as const;
/** Number of i32 fields of one budget entry: mode, candidates, K, six tier thresholds. */
export const BUDGET_FIELDS = 9;

/** Fields of one row of the row table `[rows, ROW_FIELDS] i32`: which slot, and which position in its sequence. */
export const ROW = { SLOT: 0, POSITION: 1 } as const;
/** Number of i32 fields of one row. */
export const ROW_FIELDS = 2;

/**
 * Fields of one entry of the page address table `[pages, PAGE_ADDRESS_FIELDS] u64`: where a page's summaries begin, where
 * its records of layer 0 begin, and the bytes from there to those of the next layer.
 */
export const PAGE_ADDRESS = { SUMMARY: 0, RECORDS: 1, RECORD_LAYER_BYTES: 2 } as const;
/** Number of u64 fields of one page address entry. */
export const PAGE_ADDRESS_FIELDS = 3;

/** Most lines of the hot set of one slot, layer and KV head. */
export const MOST_HOT_LINES = 8192;

/** Fields of the statistics `[rows, queryHeads, STATS_FIELDS] f32`: log-sum-exp of each share of the attention mass. */
export const STATS = { LSE_ATTENDED: 0, LSE_UNSELECTED: 1, LSE_OTHERS: 2 } as const;
/** Number of f32 fields of one statistics entry. */
export const STATS_FIELDS = 3;

/** The workspaces of a plan that can be read and written by name. */
export const PLAN_FIELD = {
  ROTATED: 0,
  TABLES: 1,
  SCORES: 2,
  CANDIDATES: 3,
  CANDIDATE_COUNT: 4,
  ESTIMATES: 5,
  PRIORITIES: 6,
  SELECTED: 7,
  SELECTED_COUNT: 8,
  STATS: 9,
  HOT_HITS: 10,
} as const;
