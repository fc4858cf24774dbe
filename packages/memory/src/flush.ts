import { InvalidArgumentError } from "@pariskv/quantizer";

/**
 * `enqueued`: the copy is on its way, and the tokens are still read from the ring; `committed`: the page may be
 * retrieved; `aborted`: the page was given up, and its tokens stay in the ring.
 */
export type FlushState = "enqueued" | "committed" | "aborted";

/**
 * One page on its way from the ring to the retrieval zone (section 1 of the algorithm): a transaction of two states.
 * Until {@link Flush.commit} the sequence reads its tokens from the ring, so that a failed copy loses nothing.
 */
export class Flush {
  /** Number of the page in its sequence. */
  readonly pageIndex: number;
  /** Id of the page in the pool. */
  readonly pageId: number;
  readonly #end: (flush: Flush, committed: boolean) => void;
  #state: FlushState = "enqueued";

  /** Made by `SequenceMemory.beginFlush`; `end` does the work and throws when it cannot. */
  constructor(pageIndex: number, pageId: number, end: (flush: Flush, committed: boolean) => void) {
    this.pageIndex = pageIndex;
    this.pageId = pageId;
    this.#end = end;
  }

  /** How far the flush is. */
  get state(): FlushState {
    return this.#state;
  }

  /**
   * Makes the page retrievable and frees its ring rows. A second commit does nothing.
   *
   * @throws InvalidArgumentError when an older page of the sequence is not committed yet, or this one was aborted.
   */
  commit(): void {
    this.#leave("committed");
  }

  /**
   * Gives the page up, and with it the pages that were enqueued after it; their tokens stay in the ring and the flush can
   * be begun again. A second abort does nothing.
   *
   * @throws InvalidArgumentError when the page is committed.
   */
  abort(): void {
    this.#leave("aborted");
  }

  #leave(state: "committed" | "aborted"): void {
    if (this.#state === state) return;
    if (this.#state !== "enqueued") {
      throw new InvalidArgumentError({
        argument: "the flush",
        expected: `enqueued before it is ${state}`,
        received: this.#state,
      });
    }
    this.#end(this, state === "committed");
    this.#state = state;
  }
}
