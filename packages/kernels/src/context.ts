/**
 * The one interface that every backend implements: `reference` (plain TypeScript), `cpu` (SIMD) and `cuda`.
 *
 * A context owns memory and a queue. Operators only queue work: outside `record` they run in order before the next
 * `read`; inside `record` they become a {@link Tape} that is run many times. Lengths, page tables and budgets live in
 * buffers that the operators read when they run, so a tape stays valid while sequences grow.
 */

/** The backends, slowest first. */
export type DeviceName = "reference" | "cpu" | "cuda";
/** `device`: fast memory; `pinned`: page-locked host memory; `mapped`: page-locked and read in place by the device. */
export type MemoryKind = "device" | "pinned" | "mapped";
/** Element types of weights and of K and V. */
export type Dtype = "f32" | "bf16" | "f16";
/** Vote tables: the paper's tiers, or graded inner products (docs/mathematics.md §3). */
export type Votes = "tiered" | "graded";
/** How the query heads that share a KV head are combined (docs/mathematics.md §4). */
export type Group = "mean" | "max" | "sum";

/** A piece of memory of a context. Reads and writes copy, and are ordered after all work queued before them. */
export interface DeviceBuffer {
  readonly bytes: number;
  readonly kind: MemoryKind;
  /** Address that the context's operators use, for the page address table. */
  readonly address: bigint;
  /** Copies `source` into the buffer. Throws InvalidArgumentError when it does not fit. */
  write(offsetBytes: number, source: ArrayBufferView): void;
  /** Waits for the queue and copies into `target`. Throws InvalidArgumentError when it reaches past the end. */
  read(offsetBytes: number, target: ArrayBufferView): void;
  /**
   * Seconds that the device takes to read the whole buffer once, after the queue: with `bytes`, the bandwidth that the
   * memory-bound operators are measured against.
   */
  timeRead(): number;
  /** Gives the memory back once nothing queued uses it. A second dispose does nothing; use after dispose throws. */
  dispose(): void;
  [Symbol.dispose](): void;
}

/** A place in a buffer. */
export interface Ref {
  readonly buffer: DeviceBuffer;
  /** Default 0. */
  readonly offsetBytes?: number;
}

/** f32 rows in a buffer: row r begins at `offsetBytes + 4 * r * rowStride`. */
export interface Rows extends Ref {
  /** Distance of two rows in elements. */
  readonly rowStride: number;
}

/** The constants of the key summary (quantizer): seeded signs and Lloyd–Max levels. */
export interface Codec {
  /** `[headDim] f32`, each +1 or -1. */
  readonly signs: Float32Array;
  /** `[8] f32`, ascending. */
  readonly centres: Float32Array;
  /** `[7] f32`, ascending. */
  readonly thresholds: Float32Array;
}

/**
 * Copies of records that attention fetched, kept on the device for the next steps: worth having where records lie in host
 * memory. Records never change, so a line stays true for as long as its slot serves the same sequence; whoever gives the slot
 * to another one clears its tags. A device that is its own host reads every record where it lies and ignores the hot set.
 */
export interface HotSet {
  /** Lines of each slot, layer and KV head: a power of two in 4..MOST_HOT_LINES. */
  readonly lines: number;
  /** `[slots, layers, kvHeads, lines] u32`: zone token + 1, or 0 for an empty line. Begins at a multiple of 16 bytes. */
  readonly tags: Ref;
  /** `[slots, layers, kvHeads, lines, 2, headDim] kvDtype`. Begins at a multiple of 16 bytes. */
  readonly records: Ref;
}

/** What a cache is made of. All tables are buffers that the memory manager owns and writes. */
export interface CacheParams {
  readonly layers: number;
  readonly kvHeads: number;
  /** Query heads that share one KV head, 1..8. */
  readonly queryGroup: number;
  /** 64, 128 or 256. */
  readonly headDim: number;
  readonly kvDtype: Dtype;
  /** Sequences that the tables have room for. */
  readonly slots: number;
  /** First tokens of a sequence, always attended. */
  readonly sinkTokens: number;
  /** Rows of the ring; token at position p >= sinkTokens lies in ring row (p - sinkTokens) mod ringTokens. */
  readonly ringTokens: number;
  /** Length of one slot's page table. */
  readonly maxPages: number;
  /** Entries of the page address table. */
  readonly pageCapacity: number;
  /** `[slots] i32`: committed tokens of the retrieval zone, a multiple of 512 in sequences. */
  readonly zoneTokens: Ref;
  /** `[slots, maxPages] u32`: page ids. */
  readonly pageTable: Ref;
  /** `[pageCapacity, PAGE_ADDRESS_FIELDS] u64`: where a page's summaries lie, and its records of each layer. */
  readonly pageAddress: Ref;
  /** `[slots, layers, kvHeads, sinkTokens + ringTokens, 2, headDim] kvDtype`: K then V of each token. */
  readonly window: Ref;
  /** `[slots, layers, kvHeads, headDim / 8, 256] u32`: keys per centroid; only for tiered votes. */
  readonly idCounts?: Ref;
  /** `[slots, layers, kvHeads] u32`: zero-norm and non-finite keys in the retrieval zone. */
  readonly invalidKeys: Ref;
  /** `[slots, layers, BUDGET_FIELDS] i32`. */
  readonly budget: Ref;
  /** `[layers, kvHeads, 2, headDim] f32`: centring mu, then balance D. */
  readonly calibration: Ref;
  /** Default: none. */
  readonly hotSet?: HotSet;
  readonly codec: Codec;
}

/** The KV cache as the operators see it: tables and windows bound together. Owns nothing. */
export interface Cache {
  readonly params: CacheParams;
  dispose(): void;
}

/** Capacities and policies that size a plan's workspaces. */
export interface PlanParams {
  readonly cache: Cache;
  /** Most rows of one step. */
  readonly maxRows: number;
  /** Most tokens of a retrieval zone. */
  readonly maxZoneTokens: number;
  /** Most candidates of a KV head; at least `maxZoneTokens` when mode scan is used. */
  readonly maxCandidates: number;
  /** Most keys fetched for a KV head. */
  readonly maxTopK: number;
  readonly votes: Votes;
  readonly group: Group;
  /** Whether `rerank` estimates the attention mass that is left out; false when left out: those statistics are NaN. */
  readonly estimateMass?: boolean;
}

/** Names of a plan's workspaces. */
export type PlanField =
  | "rotated"
  | "tables"
  | "scores"
  | "candidates"
  | "candidateCount"
  | "estimates"
  | "priorities"
  | "selected"
  | "selectedCount"
  | "stats"
  | "hotHits";

/**
 * Workspaces of the stages, allocated once; nothing allocates after this. With Q = 1 (`mean`) or queryGroup rotated
 * queries and T = 1 (`mean`, `sum`) or queryGroup tables per KV head. The counts and the statistics of a step are kept for
 * every layer, the others belong to the layer that ran last:
 *
 * - rotated `[maxRows, kvHeads, Q, headDim] f32`
 * - tables `[maxRows, kvHeads, T, headDim / 8, 256] u8`
 * - scores `[maxRows, kvHeads, maxZoneTokens] u16`
 * - candidates `[maxRows, kvHeads, maxCandidates] u32`, ascending; candidateCount `[layers, maxRows, kvHeads] i32`
 * - estimates `[maxRows, kvHeads, Q, maxCandidates] f32`; priorities `[maxRows, kvHeads, maxCandidates] f32`
 * - selected `[maxRows, kvHeads, maxTopK] u32`, ascending; selectedCount `[layers, maxRows, kvHeads] i32`
 * - stats `[layers, maxRows, queryHeads, 3] f32`
 * - hotHits `[layers, maxRows, kvHeads] i32`: selected keys that attend read from the hot set
 */
export interface Plan {
  readonly params: PlanParams;
  /** Bytes of all workspaces. */
  readonly bytes: number;
  /** Where a workspace lies. */
  field(name: PlanField): Ref;
  dispose(): void;
}

/** A recorded list of operators, run with one call. */
export interface Tape {
  /** Runs all operators in order and waits. */
  run(): void;
  /** Runs all operators away from the JavaScript thread. Rejects with DisposedError if the context goes first. */
  runAsync(): Promise<void>;
  dispose(): void;
}

/** The rows of a step: `table` is `[rowCount, 2] i32` of slot and position; a slot of -1 is skipped. */
export interface Step {
  readonly table: Ref;
  readonly rowCount: number;
}

/**
 * Time that a verb has taken. On cuda 0 unless the environment has PARISKV_CUDA_TIMES=1: measuring puts events between the
 * kernels, which otherwise overlap.
 */
export interface VerbTime {
  readonly calls: number;
  readonly microseconds: number;
}

/** The retrieval stages, one verb each (architecture: one stage, one verb, four files). */
export interface Stages {
  /** Writes K and V of each row to the window. k, v: `[rows, kvHeads, headDim] f32`. */
  append(args: { cache: Cache; layer: number; step: Step; k: Rows; v: Rows }): void;
  /** Rotates queries and makes vote tables. q: `[rows, queryHeads, headDim] f32`. Skips rows whose mode is dense. */
  probe(args: { plan: Plan; layer: number; step: Step; q: Rows }): void;
  /** Votes of every key of the zone. Only rows in mode vote. */
  collide(args: { plan: Plan; layer: number; step: Step }): void;
  /** The candidates: highest scores, ties to the smaller index. In mode scan all valid keys up to maxCandidates. */
  select(args: { plan: Plan; layer: number; step: Step }): void;
  /** Estimates of the candidates, the top K, and where the plan asks for it the mass that is left out. */
  rerank(args: { plan: Plan; layer: number; step: Step }): void;
  /**
   * Softmax attention over sink, ring and the selected keys (all keys in mode dense), at full precision.
   * The row at position p sees positions 0..p. q, out: `[rows, queryHeads, headDim] f32`.
   */
  attend(args: { plan: Plan; layer: number; step: Step; q: Rows; out: Rows }): void;
  /** Summaries of page number `pageIndex` of `slot` (512 tokens in its ring, all layers and heads) into page `pageId`. */
  encode(args: { cache: Cache; slot: number; pageIndex: number; pageId: number }): void;
  /**
   * Copies the records of those 512 tokens from the ring into page `pageId`. Outside a tape it may go on beside the tapes
   * that are run after it, until the page's commit: they must leave those ring rows as they are and not read the page.
   */
  offload(args: { cache: Cache; slot: number; pageIndex: number; pageId: number }): void;
  /** Makes the page retrievable: adds its id and invalid-key counts, sets zoneTokens to (pageIndex + 1) * 512. */
  commit(args: { cache: Cache; slot: number; pageIndex: number; pageId: number }): void;
}

/** Dense decoder operators. Activations are f32. */
export interface DenseOperators {
  /** out `[rows, width]` = weight `[vocab, width]` at tokens `[rows] i32`. A token outside the vocabulary gives zeros. */
  embed(args: {
    tokens: Ref;
    weight: Ref;
    dtype: Dtype;
    vocab: number;
    width: number;
    rowCount: number;
    out: Rows;
  }): void;
  /** out = x / sqrt(mean(x²) + eps) * weight over `width` elements; `groups` consecutive groups in a row (heads). */
  rmsnorm(args: {
    x: Rows;
    weight: Ref;
    eps: number;
    width: number;
    groups?: number;
    rowCount: number;
    out: Rows;
  }): void;
  /** out `[rows, outWidth]` = x `[rows, inWidth]` · weightᵀ (+ bias f32) (+ out when accumulate). weight `[outWidth, inWidth]`. */
  linear(args: {
    x: Rows;
    weight: Ref;
    dtype: Dtype;
    bias?: Ref;
    inWidth: number;
    outWidth: number;
    rowCount: number;
    accumulate?: boolean;
    out: Rows;
  }): void;
  /** Rotary embedding in place, halves paired (j, j + headDim / 2), on `heads` heads; frequencies `[headDim / 2] f32`. */
  rope(args: { x: Rows; heads: number; headDim: number; frequencies: Ref; step: Step }): void;
  /** out `[rows, width]` = silu(x[0..width]) * x[width..2 width]. */
  swiglu(args: { x: Rows; width: number; rowCount: number; out: Rows }): void;
  /** out `[rows] i32` = index of the largest of x `[rows, width]`, ties to the smaller index; NaN never wins. */
  argmax(args: { x: Rows; width: number; rowCount: number; out: Ref }): void;
  /**
   * Causal attention of rows `firstRow .. firstRow + rowCount` of the step, all of one slot at consecutive positions and
   * already appended, over every position up to their own, wherever it lies. Tiled: scores are never materialised.
   */
  attendCausal(args: {
    cache: Cache;
    layer: number;
    step: Step;
    firstRow: number;
    rowCount: number;
    q: Rows;
    out: Rows;
  }): void;
}

/**
 * Instruction sets of the CPU backend; `avx512` means F, BW, VL, DQ and VBMI, `amx` the matrix unit for bf16 beside it.
 */
export type CpuIsa = "portable" | "avx2" | "avx512" | "amx";

/** Options of {@link createContext}. */
export interface ContextOptions {
  /** `auto` (default): the fastest that is present. */
  readonly device?: DeviceName | "auto";
  /** CPU threads; default: the cores this process may use. */
  readonly threads?: number;
  /** CPU instruction set; default: PARISKV_CPU_ISA of the environment, else the best present. */
  readonly isa?: CpuIsa;
}

/** A device with its memory, its queue and its operators. */
export interface Context extends Stages, DenseOperators {
  readonly device: DeviceName;
  /** What was chosen, for people: "avx512, 2 threads". */
  readonly detail: string;
  /** Bytes of a kind of memory that can still be allocated; beyond all memory where the system does not tell. */
  availableBytes(kind: MemoryKind): number;
  /** Allocates zeroed memory. Throws OutOfMemoryError with both numbers. */
  allocate(bytes: number, kind: MemoryKind): DeviceBuffer;
  /** Copies between two buffers of this context. */
  copy(args: { from: Ref; to: Ref; bytes: number }): void;
  createCache(params: CacheParams): Cache;
  createPlan(params: PlanParams): Plan;
  /** Calls `body` once; the operators it queues become the tape and do not run now. */
  record(body: () => void): Tape;
  /** Time per verb since the last call, summed over all runs. */
  takeTimes(): Map<string, VerbTime>;
  /** Waits for all queued work. */
  synchronize(): void;
  /** Ends the context: waits for what runs, then gives back all of its memory. */
  dispose(): void;
  [Symbol.dispose](): void;
}
