import type { SequenceMemory, ZoneCounts } from "@pariskv/memory";
import { DisposedError } from "@pariskv/quantizer";
import type { Mode } from "./policy.js";

/** What a sequence asks of its retriever. */
export interface SequenceOwner {
  /** Makes a sequence of a memory that was forked. */
  adopt(memory: SequenceMemory, mode: Mode | "policy"): Sequence;
  /** Throws InvalidArgumentError when the sequence cannot take `mode` now. */
  requireMode(sequence: Sequence, mode: Mode | "policy"): void;
  /** Writes the budgets anew. */
  renewBudget(sequence: Sequence): void;
}

/** One sequence of a retriever: its tokens, and where they live. */
export class Sequence {
  /** The memory manager's side of the sequence. */
  readonly memory: SequenceMemory;
  readonly #owner: SequenceOwner;
  #mode: Mode | "policy";

  /** Made by `Retriever.createSequence`. */
  constructor(memory: SequenceMemory, owner: SequenceOwner, mode: Mode | "policy") {
    this.memory = memory;
    this.#owner = owner;
    this.#mode = mode;
  }

  /** `policy` (default), or one rung of the ladder for all layers of this sequence, to compare it with others. */
  get mode(): Mode | "policy" {
    return this.#mode;
  }

  /**
   * Takes effect with the next step. Layers that are dense by policy stay dense.
   *
   * @throws InvalidArgumentError for an unknown mode, for `scan` when the plan has no room for every key as a candidate,
   * for a search when every layer is dense by policy, and in the middle of a step of this sequence; DisposedError.
   */
  set mode(mode: Mode | "policy") {
    if (this.memory.disposed) throw new DisposedError({ object: "sequence" });
    this.#owner.requireMode(this, mode);
    this.#mode = mode;
    this.#owner.renewBudget(this);
  }

  /** Tokens of the sequence. */
  get tokens(): number {
    return this.memory.tokens;
  }

  /** Tokens in each zone. */
  get counts(): ZoneCounts {
    return this.memory.counts;
  }

  /**
   * A new sequence with the first `tokens` tokens of this one (default: all) and its mode. Pages are shared, not copied.
   *
   * @throws InvalidArgumentError when `tokens` is more than there are, OutOfMemoryError when all sequences are taken.
   */
  fork(tokens?: number): Sequence {
    return this.#owner.adopt(this.memory.fork(tokens), this.#mode);
  }

  /** Gives its pages and its slot back. A second dispose does nothing. */
  dispose(): void {
    this.memory.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
