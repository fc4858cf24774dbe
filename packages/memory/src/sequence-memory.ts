import { DisposedError, InvalidArgumentError, PAGE_TOKENS, requireInteger } from "@pariskv/quantizer";
import { Flush } from "./flush.js";
import type { KvMemory } from "./kv-memory.js";
import type { PageReservation } from "./page-pool.js";
import { copyWindow, restoreWindow } from "./window-copy.js";
import { ringTokens, sealedPages, type ZoneCounts, zoneCounts } from "./zones.js";

/** What a sequence may do with its owner's tables; given by `KvMemory.createSequence`. */
export interface SlotAccess {
  /** Enters a page into this slot's page table. */
  writePage(pageIndex: number, pageId: number): void;
  /** Returns the slot. */
  giveBack(): void;
}

/**
 * One sequence: a sink, a ring and a list of page ids. Forking and sharing a prefix are operations on that list: pages
 * are never copied, because a page's content is a function of its tokens alone.
 */
export class SequenceMemory {
  /** The sequence's place in the tables of the cache. */
  readonly slot: number;
  readonly #memory: KvMemory;
  readonly #access: SlotAccess;
  readonly #pages: number[] = [];
  readonly #pending: Flush[] = [];
  #tokens = 0;
  #disposed = false;

  /** Made by `KvMemory.createSequence`. */
  constructor(memory: KvMemory, slot: number, access: SlotAccess) {
    this.#memory = memory;
    this.slot = slot;
    this.#access = access;
  }

  /** Tokens whose K and V all layers have appended. */
  get tokens(): number {
    return this.#tokens;
  }

  /** Committed tokens of the retrieval zone. */
  get zoneTokens(): number {
    return this.#pages.length * PAGE_TOKENS;
  }

  /** Ids of the committed pages, oldest first. */
  get pages(): readonly number[] {
    return this.#pages;
  }

  /** Flushes that are enqueued and not committed, oldest first. */
  get pending(): readonly Flush[] {
    return this.#pending;
  }

  /** Tokens in each zone. */
  get counts(): ZoneCounts {
    return zoneCounts(this.#memory.zones, this.#tokens, this.zoneTokens);
  }

  /** Whether the sequence has been given back. */
  get disposed(): boolean {
    return this.#disposed;
  }

  /** Pages that are to be sealed, and not enqueued yet, once `count` further tokens are appended. */
  pagesDue(count: number): number {
    const held = this.#pages.length + this.#pending.length;
    return Math.max(0, sealedPages(this.#memory.zones, this.#tokens + count) - held);
  }

  /**
   * Makes sure that `count` further tokens, in any number of steps, are within `maxTokens` and that the pool has the
   * pages they will seal.
   *
   * @throws InvalidArgumentError past `maxTokens`, OutOfMemoryError when the pool is too full.
   */
  requireRoom(count: number): void {
    this.#use();
    const { maxTokens, pages } = this.#memory;
    requireInteger("count", count, 0, Number.MAX_SAFE_INTEGER);
    if (this.#tokens + count > maxTokens) {
      throw new InvalidArgumentError({
        argument: "the sequence",
        expected: `at most ${maxTokens} tokens long`,
        received: this.#tokens + count,
      });
    }
    pages.requireAvailable(this.pagesDue(count));
  }

  /**
   * Takes the memory of the pages that `count` further tokens will seal, slab by slab as `PagePool.reserve` does, so that
   * appending them takes none.
   *
   * @throws InvalidArgumentError past `maxTokens`, OutOfMemoryError when the pool or its context is too small.
   */
  reserve(count: number): Generator<PageReservation, void> {
    this.requireRoom(count);
    return this.#memory.pages.reserve(this.pagesDue(count));
  }

  /**
   * Makes sure that one step can append `count` tokens: {@link SequenceMemory.requireRoom}, and room in the ring. The
   * sequence stays as it is.
   *
   * @throws InvalidArgumentError past `maxTokens` or `chunkTokens` or when the ring must be flushed first,
   * OutOfMemoryError when the pool is too full.
   */
  prepareAppend(count: number): void {
    this.requireRoom(count);
    this.#requireRing(count);
  }

  /**
   * Counts `count` tokens whose K and V every layer has appended.
   *
   * @throws InvalidArgumentError when the ring has no room for them.
   */
  advance(count: number): void {
    this.#use();
    this.#requireRing(count);
    this.#tokens += count;
  }

  /**
   * Enqueues the oldest page that is due: summaries are encoded and K and V copied. Returns null when none is due.
   *
   * @throws OutOfMemoryError when no page can be had; nothing is lost then.
   */
  beginFlush(): Flush | null {
    this.#use();
    if (this.pagesDue(0) === 0) return null;
    const { pages, context, cache } = this.#memory;
    const pageIndex = this.#pages.length + this.#pending.length;
    const pageId = pages.allocate();
    try {
      context.encode({ cache, slot: this.slot, pageIndex, pageId });
      context.offload({ cache, slot: this.slot, pageIndex, pageId });
    } catch (error) {
      pages.release(pageId);
      throw error;
    }
    const flush = new Flush(pageIndex, pageId, (ended, committed) =>
      committed ? this.#commit(ended) : this.#abort(ended),
    );
    this.#pending.push(flush);
    return flush;
  }

  /**
   * Enqueues and commits every page that is due. Returns the number of pages that became retrievable.
   *
   * @throws OutOfMemoryError when a page cannot be had; its tokens stay in the ring.
   */
  flush(): number {
    const before = this.#pages.length;
    this.commitPending();
    for (let flush = this.beginFlush(); flush !== null; flush = this.beginFlush()) flush.commit();
    return this.#pages.length - before;
  }

  /**
   * Commits what an earlier call enqueued and enqueues every page that is due: one step later, so that their copies run
   * beside the next step. Returns the number of pages that became retrievable.
   *
   * @throws OutOfMemoryError when a page cannot be had; its tokens stay in the ring.
   */
  flushBehind(): number {
    const before = this.#pages.length;
    this.commitPending();
    const committed = this.#pages.length - before;
    while (this.beginFlush() !== null);
    return committed;
  }

  /** Commits every enqueued page. */
  commitPending(): void {
    this.#use();
    while (this.#pending.length > 0) (this.#pending[0] as Flush).commit();
  }

  /**
   * A new sequence that begins with the first `tokens` tokens of this one (default: all of them). It shares every page
   * that lies in that prefix and copies only the window. Pages that this sequence has enqueued are committed first.
   *
   * @throws InvalidArgumentError when `tokens` is more than there are, OutOfMemoryError when no slot is free.
   */
  fork(tokens: number = this.#tokens): SequenceMemory {
    this.#use();
    requireInteger("tokens", tokens, 0, this.#tokens);
    this.commitPending();
    const child = this.#memory.createSequence();
    try {
      child.#adopt(this, tokens);
    } catch (error) {
      child.dispose();
      throw error;
    }
    return child;
  }

  /** Gives pages and slot back; what is enqueued is aborted. A second dispose does nothing. */
  dispose(): void {
    if (this.#disposed) return;
    this.#pending[0]?.abort();
    this.#disposed = true;
    for (const pageId of this.#pages) this.#memory.pages.release(pageId);
    this.#pages.length = 0;
    this.#access.giveBack();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #use(): void {
    if (this.#disposed) throw new DisposedError({ object: "sequence" });
  }

  #requireRing(count: number): void {
    const { zones } = this.#memory;
    requireInteger("count", count, 1, zones.chunkTokens);
    const { ring } = this.counts;
    if (ring + count > ringTokens(zones)) {
      throw new InvalidArgumentError({
        argument: "the ring",
        expected: `flushed before ${count} tokens are appended`,
        received: `${ring} tokens in a ring of ${ringTokens(zones)}`,
      });
    }
  }

  #commit(flush: Flush): void {
    if (this.#pending[0] !== flush) {
      throw new InvalidArgumentError({
        argument: "the flush",
        expected: "the oldest one of its sequence",
        received: `page ${flush.pageIndex}`,
      });
    }
    this.#enter(flush.pageIndex, flush.pageId);
    this.#pending.shift();
  }

  #abort(flush: Flush): void {
    // Later pages were numbered after this one: they go first.
    while (this.#pending.at(-1) !== flush) (this.#pending.at(-1) as Flush).abort();
    this.#pending.pop();
    this.#memory.pages.release(flush.pageId);
  }

  /** Enters a page as the next one of this sequence. */
  #enter(pageIndex: number, pageId: number): void {
    const { context, cache } = this.#memory;
    this.#access.writePage(pageIndex, pageId);
    context.commit({ cache, slot: this.slot, pageIndex, pageId });
    this.#pages.push(pageId);
  }

  /** Becomes a copy of the first `tokens` tokens of `parent`. */
  #adopt(parent: SequenceMemory, tokens: number): void {
    const memory = this.#memory;
    const { zones, pages } = memory;
    // A parent that could not seal a page has more in its ring than its length says, and so has its fork.
    const shared = parent.#pages.slice(0, sealedPages(zones, tokens));
    for (const [pageIndex, pageId] of shared.entries()) {
      this.#enter(pageIndex, pageId);
      pages.retain(pageId);
    }
    const ringBegin = zones.sinkTokens + shared.length * PAGE_TOKENS;
    const parentRingBegin = zones.sinkTokens + parent.zoneTokens;
    copyWindow(memory, parent.slot, this.slot, 0, Math.min(tokens, zones.sinkTokens));
    // What the prefix keeps in its ring the parent may have in pages already; the rest it has in the same ring rows.
    restoreWindow(memory, parent.#pages, this.slot, ringBegin, Math.min(tokens, parentRingBegin));
    copyWindow(memory, parent.slot, this.slot, Math.max(ringBegin, parentRingBegin), tokens);
    this.#tokens = tokens;
  }
}
