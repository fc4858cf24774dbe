import {
  BUDGET_FIELDS,
  type Context,
  type DeviceBuffer,
  type Plan,
  ROW,
  ROW_FIELDS,
  type Rows,
  type Step,
} from "@pariskv/kernels";
import { KvMemory, MOST_SLOTS, type SequenceMemory, zoneCounts } from "@pariskv/memory";
import { createQuantizer, DisposedError, InvalidArgumentError, requireInteger } from "@pariskv/quantizer";
import { defaultHotLines, fillBudgets, planCapacity } from "./budgets.js";
import { layerMode, layerPolicy, type Mode, type RetrievalPolicy, resolvePolicy } from "./policy.js";
import { requireMode } from "./require-mode.js";
import { DEFAULT_ZONES, type RetrieverSettings } from "./retriever-settings.js";
import { Sequence, type SequenceOwner } from "./sequence.js";
import { type AttentionShape, shapeGeometry } from "./shape.js";
import { type RowSeen, StepStatistics } from "./statistics.js";

/** One sequence's share of a step. */
export interface StepEntry {
  readonly sequence: Sequence;
  /** Tokens that a prefill step appends to its one sequence. Left out, the step decodes one token of each sequence. */
  readonly tokens?: number;
  /** Of a prefill step: another one follows, so that pages may leave the ring beside it and be sealed behind it. */
  readonly more?: boolean;
}

/** Queries, keys and values of a step's rows, after RoPE, and where the attention goes. */
export interface AttentionRows {
  /** `[rows, kvHeads, headDim] f32`. */
  readonly k: Rows;
  /** `[rows, kvHeads, headDim] f32`. */
  readonly v: Rows;
  /** `[rows, queryHeads, headDim] f32`. */
  readonly q: Rows;
  /** `[rows, queryHeads, headDim] f32`. */
  readonly out: Rows;
}

/** A step between `beginStep` and `endStep`. */
interface OpenStep {
  readonly entries: readonly { readonly sequence: Sequence; readonly tokens: number }[];
  /** What the rows of a decode step see; undefined in a prefill step. */
  readonly seen: readonly RowSeen[] | undefined;
  /** Whether pages are sealed one step later. */
  readonly more: boolean;
}

/**
 * ParisKV's decode step over sequences of different lengths (section 3 of the algorithm).
 *
 * A step is `beginStep`, then for every layer in turn {@link Retriever.queueDecode} (or {@link Retriever.queuePrefill}),
 * then `endStep`. The queue calls may be recorded once as a tape, because positions, budgets and page tables live in
 * memory that the operators read. `ArraySteps` does the same with arrays.
 */
export class Retriever {
  readonly context: Context;
  readonly shape: AttentionShape;
  readonly policy: RetrievalPolicy;
  /** Where the tokens of all sequences live. */
  readonly memory: KvMemory;
  /** The workspaces of the stages, of one row for each sequence. */
  readonly plan: Plan;
  /** Most rows of one step: a chunk of one sequence, or one row of each. */
  readonly maxRows: number;
  /** Counts and masses of the last decode step. */
  readonly statistics: StepStatistics;
  readonly #rowTable: DeviceBuffer;
  readonly #ownsContext: boolean;
  readonly #budgets: Int32Array;
  readonly #sequences = new WeakSet<Sequence>();
  readonly #owner: SequenceOwner = {
    adopt: (memory, mode) => this.#adopt(memory, mode),
    requireMode: (sequence, mode) => this.#requireMode(sequence, mode),
    renewBudget: (sequence) => this.#renewBudget(sequence),
  };
  readonly #taken: { dispose(): void }[] = [];
  #open: OpenStep | undefined;
  #disposed = false;

  /** Made by `createRetriever`. */
  constructor(context: Context, ownsContext: boolean, settings: RetrieverSettings) {
    const { shape, maxTokens, maxSequences = 1 } = settings;
    const geometry = shapeGeometry(shape, settings.kvDtype ?? "bf16");
    requireInteger("maxSequences", maxSequences, 1, MOST_SLOTS);
    const zones = { ...DEFAULT_ZONES, ...settings.zones };
    this.context = context;
    this.#ownsContext = ownsContext;
    this.shape = shape;
    this.policy = resolvePolicy(settings.policy ?? {}, shape.layers);
    this.maxRows = Math.max(zones.chunkTokens, maxSequences);
    this.#budgets = new Int32Array(shape.layers * BUDGET_FIELDS);
    const quantizer = createQuantizer({
      headDim: shape.headDim,
      ...(settings.seed !== undefined && { seed: settings.seed }),
    });
    const take = <T extends { dispose(): void }>(thing: T): T => {
      this.#taken.push(thing);
      return thing;
    };
    try {
      this.memory = take(
        new KvMemory({
          context,
          geometry,
          zones,
          codec: {
            signs: quantizer.signs,
            centres: quantizer.levels.centersFloat32,
            thresholds: quantizer.levels.thresholdsFloat32,
          },
          slots: maxSequences,
          maxTokens,
          countIds: this.policy.votes === "tiered",
          hotLines: settings.hotLines ?? defaultHotLines(this.policy, shape.layers, context.device),
          ...(settings.capacityPages !== undefined && { capacityPages: settings.capacityPages }),
        }),
      );
      if (settings.calibration) this.memory.writeCalibration(settings.calibration);
      this.plan = take(
        context.createPlan({
          cache: this.memory.cache,
          maxRows: maxSequences,
          ...planCapacity(this.policy, shape.layers, maxTokens),
          votes: this.policy.votes,
          group: this.policy.group,
          estimateMass: settings.estimateMass ?? false,
        }),
      );
      this.#rowTable = take(context.allocate(this.maxRows * ROW_FIELDS * 4, "device"));
      this.statistics = new StepStatistics({ geometry, layers: shape.layers, plan: this.plan, policy: this.policy });
    } catch (error) {
      for (const thing of this.#taken.reverse()) thing.dispose();
      throw error;
    }
  }

  /**
   * Starts an empty sequence.
   *
   * @throws OutOfMemoryError when `maxSequences` are alive.
   */
  createSequence(): Sequence {
    this.#use();
    return this.#adopt(this.memory.createSequence(), "policy");
  }

  /**
   * The row table of the steps, for recording: `rowCount` rows.
   *
   * @throws InvalidArgumentError when a step never has that many.
   */
  step(rowCount: number): Step {
    this.#use();
    requireInteger("rowCount", rowCount, 1, this.maxRows);
    return { table: { buffer: this.#rowTable }, rowCount };
  }

  /**
   * Begins a step: checks that every sequence has room, and writes slots and positions of its rows in the order of
   * `entries`. A decode step has one row of each sequence, a prefill step `tokens` rows of one. Pages that are on their
   * way out, or that an earlier `endStep` could not seal, are sealed first; a prefill step leaves the former on their way.
   *
   * @throws InvalidArgumentError or OutOfMemoryError with no token appended and no step begun.
   */
  beginStep(entries: readonly StepEntry[]): Step {
    this.#use();
    if (this.#open) refuse("the step", "ended before the next begins", "an open step");
    const isPrefill = entries.some(({ tokens }) => tokens !== undefined);
    const all = entries.map(({ sequence, tokens = 1 }) => ({ sequence, tokens }));
    requireInteger("entries.length", all.length, 1, isPrefill ? 1 : this.plan.params.maxRows);
    const sequences = new Set(all.map(({ sequence }) => sequence));
    if (sequences.size < all.length) refuse("entries", "different sequences", "one of them twice");
    for (const sequence of sequences) {
      if (!this.#sequences.has(sequence)) refuse("entries", "sequences of this retriever", "another's");
      if (!isPrefill || sequence.memory.pagesDue(0) > 0) this.#seal(sequence);
    }
    for (const { sequence, tokens } of all) sequence.memory.prepareAppend(tokens);
    // Each sequence has its pages; all of them together must have them too.
    this.memory.pages.requireAvailable(
      all.reduce((sum, { sequence, tokens }) => sum + sequence.memory.pagesDue(tokens), 0),
    );

    const rowCount = isPrefill ? (all[0] as { tokens: number }).tokens : all.length;
    const rows = new Int32Array(rowCount * ROW_FIELDS);
    for (let row = 0; row < rowCount; row++) {
      const { sequence } = all[isPrefill ? 0 : row] as { sequence: Sequence };
      rows[row * ROW_FIELDS + ROW.SLOT] = sequence.memory.slot;
      rows[row * ROW_FIELDS + ROW.POSITION] = sequence.tokens + (isPrefill ? row : 0);
    }
    this.#rowTable.write(0, rows);
    this.#open = {
      entries: all,
      seen: isPrefill ? undefined : all.map(({ sequence }) => this.#seen(sequence)),
      more: isPrefill && entries.some(({ more }) => more),
    };
    return this.step(rowCount);
  }

  /** Queues one layer of a decode step: one row per sequence; append, then the stages of the layer's policy. */
  queueDecode(layer: number, step: Step, rows: AttentionRows): void {
    this.#use();
    const { context, plan } = this;
    context.append({ cache: this.memory.cache, layer, step, k: rows.k, v: rows.v });
    if (layerPolicy(this.policy, layer).mode !== "dense") {
      context.probe({ plan, layer, step, q: rows.q });
      context.collide({ plan, layer, step });
      context.select({ plan, layer, step });
      context.rerank({ plan, layer, step });
    }
    context.attend({ plan, layer, step, q: rows.q, out: rows.out });
  }

  /**
   * Queues one layer of a prefill step of one sequence: append, then causal attention over everything before, dense and
   * exact.
   */
  queuePrefill(layer: number, step: Step, rows: AttentionRows): void {
    this.#use();
    const { cache } = this.memory;
    this.context.append({ cache, layer, step, k: rows.k, v: rows.v });
    this.context.attendCausal({ cache, layer, step, firstRow: 0, rowCount: step.rowCount, q: rows.q, out: rows.out });
  }

  /**
   * Ends a step: counts its tokens, seals the pages that are due and renews the budgets. Where another prefill step
   * follows, pages are enqueued now and sealed when that one ends. A sequence that was disposed on the way is left out.
   *
   * @throws InvalidArgumentError without a step, OutOfMemoryError when a page cannot be had: the tokens are counted and
   * stay in the ring, and the next step of their sequence tries again.
   */
  endStep(): void {
    this.#use();
    if (!this.#open) refuse("the step", "begun before it ends", "no open step");
    const { entries, seen, more } = this.#open;
    this.#open = undefined;
    if (seen) this.statistics.close(seen);
    const alive = entries.filter(({ sequence }) => !sequence.memory.disposed);
    // All sequences count their tokens before any of them may fail to seal a page.
    for (const { sequence, tokens } of alive) sequence.memory.advance(tokens);
    for (const { sequence } of alive) {
      if (more) this.#renewAfter(sequence, () => sequence.memory.flushBehind());
      else this.#seal(sequence);
    }
  }

  /** Gives up a step: its rows are overwritten by the next one. Without a step it does nothing. */
  abortStep(): void {
    if (this.#open?.seen) this.statistics.close([]);
    this.#open = undefined;
  }

  /** The rung of the ladder that `layer` takes for `sequence` in its next decode step. */
  mode(sequence: Sequence, layer: number): Mode {
    return layerMode(this.policy, layer, sequence.counts.zone, sequence.mode);
  }

  /** Ends the retriever, its sequences, and its context if it made one. A second dispose does nothing. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const thing of this.#taken.reverse()) thing.dispose();
    if (this.#ownsContext) this.context.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #adopt(memory: SequenceMemory, mode: Mode | "policy"): Sequence {
    const sequence = new Sequence(memory, this.#owner, mode);
    this.#sequences.add(sequence);
    this.#renewBudget(sequence);
    return sequence;
  }

  #requireMode(sequence: Sequence, mode: Mode | "policy"): void {
    this.#use();
    if (this.#open?.entries.some((entry) => entry.sequence === sequence)) {
      refuse("mode", "set between two steps", `${mode} in the middle of one`);
    }
    requireMode(this, mode);
  }

  /** What the next decode step of a sequence sees. */
  #seen(sequence: Sequence): RowSeen {
    const { tokens, zoneTokens } = sequence.memory;
    return { tokens: zoneCounts(this.memory.zones, tokens + 1, zoneTokens), mode: sequence.mode };
  }

  /** Seals the pages of a sequence that are due; its budgets follow from the length of its zone. */
  #seal(sequence: Sequence): void {
    this.#renewAfter(sequence, () => sequence.memory.flush());
  }

  #renewAfter(sequence: Sequence, flush: () => void): void {
    const before = sequence.counts.zone;
    try {
      flush();
    } finally {
      if (sequence.counts.zone > before) this.#renewBudget(sequence);
    }
  }

  #renewBudget(sequence: Sequence): void {
    fillBudgets(this.policy, sequence.counts.zone, sequence.mode, this.#budgets);
    this.memory.writeBudget(sequence.memory.slot, this.#budgets);
  }

  #use(): void {
    if (this.#disposed) throw new DisposedError({ object: "retriever" });
  }
}

function refuse(argument: string, expected: string, received: unknown): never {
  throw new InvalidArgumentError({ argument, expected, received });
}
