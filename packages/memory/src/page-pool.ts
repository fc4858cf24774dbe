import { type Context, type DeviceBuffer, type MemoryKind, PAGE_ADDRESS, PAGE_ADDRESS_FIELDS } from "@pariskv/kernels";
import { InvalidArgumentError, OutOfMemoryError, requireInteger } from "@pariskv/quantizer";
import { type KvGeometry, pageRecordBytes, pageSummaryBytes } from "./geometry.js";

/** Sizes and places of a page pool. */
export interface PagePoolOptions {
  readonly context: Context;
  readonly geometry: KvGeometry;
  /** Most pages that the pool may hold. */
  readonly capacityPages: number;
  /** Pages that one arena slab holds; memory is taken slab by slab as pages are needed. */
  readonly slabPages: number;
  /** Where summaries live. */
  readonly summaryKind: MemoryKind;
  /** Where K and V live. */
  readonly recordKind: MemoryKind;
}

interface Slab {
  /** `[pages, layers, kvHeads, headPageBytes] u8`. */
  readonly summaries: DeviceBuffer;
  /** `[layers, pages, kvHeads, 512, 2, headDim] kvDtype`: what one layer reads lies together (docs/decisions/0011). */
  readonly records: DeviceBuffer;
  readonly pages: number;
}

/** Where the records of a page lie: of each layer `[kvHeads, 512, 2, headDim] kvDtype`. */
export interface PageRecords {
  readonly buffer: DeviceBuffer;
  /** Where those of layer 0 begin. */
  readonly offsetBytes: number;
  /** From where the records of one layer begin to where those of the next do. */
  readonly layerStrideBytes: number;
}

/** How far {@link PagePool.reserve} has come. */
export interface PageReservation {
  readonly takenBytes: number;
  /** Bytes of all slabs that it will take. */
  readonly wantedBytes: number;
}

/**
 * Pages with reference counts over slabs of arena memory. A page is 512 tokens of all layers and KV heads; who holds a
 * page retains it, and a page that nobody holds is free for the next sequence.
 */
export class PagePool {
  /** `[capacityPages, PAGE_ADDRESS_FIELDS] u64`: where the summaries and the records of each page lie. */
  readonly addressTable: DeviceBuffer;
  readonly #options: PagePoolOptions;
  readonly #references: Uint32Array;
  readonly #slabs: Slab[] = [];
  #free: number[] = [];
  #usedPages = 0;

  /**
   * Takes the address table only; slabs come with the pages.
   *
   * @throws InvalidArgumentError for a capacity or slab that is no positive whole number, OutOfMemoryError.
   */
  constructor(options: PagePoolOptions) {
    const { capacityPages, slabPages } = options;
    requireInteger("capacityPages", capacityPages, 1, 2 ** 24);
    requireInteger("slabPages", slabPages, 1, 2 ** 24);
    this.#options = options;
    this.#references = new Uint32Array(capacityPages);
    this.addressTable = options.context.allocate(capacityPages * PAGE_ADDRESS_FIELDS * 8, "device");
  }

  /** Most pages that the pool may hold. */
  get capacityPages(): number {
    return this.#options.capacityPages;
  }

  /** Pages that somebody holds. */
  get usedPages(): number {
    return this.#usedPages;
  }

  /** Pages that can still be allocated. */
  get availablePages(): number {
    return this.capacityPages - this.#usedPages;
  }

  /** Bytes of summaries and records taken so far, whole slabs. */
  get allocatedBytes(): { readonly summaries: number; readonly records: number } {
    let summaries = 0;
    let records = 0;
    for (const slab of this.#slabs) {
      summaries += slab.summaries.bytes;
      records += slab.records.bytes;
    }
    return { summaries, records };
  }

  /** Throws OutOfMemoryError unless `pages` further pages are within the capacity. */
  requireAvailable(pages: number): void {
    if (pages <= this.availablePages) return;
    const { geometry } = this.#options;
    const pageBytes = pageSummaryBytes(geometry) + pageRecordBytes(geometry);
    throw new OutOfMemoryError({
      kind: "page pool",
      requestedBytes: pages * pageBytes,
      availableBytes: this.availablePages * pageBytes,
    });
  }

  /**
   * Takes a free page with one reference and returns its id.
   *
   * @throws OutOfMemoryError, with nothing taken, when the pool is full or its context has no memory for a slab.
   */
  allocate(): number {
    this.requireAvailable(1);
    if (this.#free.length === 0) this.#grow();
    const pageId = this.#free.pop() as number;
    this.#references[pageId] = 1;
    this.#usedPages++;
    return pageId;
  }

  /**
   * Takes the slabs that `pages` further pages need, one with each step of the iterator: taking memory needs time, and
   * whoever asks may show how far it has come, or stop. What was taken stays the pool's.
   *
   * @throws OutOfMemoryError when the pool may not hold that many, or its context has no memory for a slab.
   */
  *reserve(pages: number): Generator<PageReservation, void> {
    this.requireAvailable(pages);
    const { capacityPages, slabPages, geometry } = this.#options;
    const heldBy = (slabs: number) => Math.min(capacityPages, slabs * slabPages);
    const before = heldBy(this.#slabs.length);
    const wanted = heldBy(Math.ceil((before + pages - this.#free.length) / slabPages));
    const pageBytes = pageSummaryBytes(geometry) + pageRecordBytes(geometry);
    while (this.#free.length < pages) {
      this.#grow();
      const taken = heldBy(this.#slabs.length);
      yield { takenBytes: (taken - before) * pageBytes, wantedBytes: (wanted - before) * pageBytes };
    }
  }

  /** Adds a reference. Throws InvalidArgumentError when nobody holds the page. */
  retain(pageId: number): void {
    this.#references[pageId] = this.#held(pageId) + 1;
  }

  /** Drops a reference; the last one frees the page. Throws InvalidArgumentError when nobody holds it. */
  release(pageId: number): void {
    const left = this.#held(pageId) - 1;
    this.#references[pageId] = left;
    if (left === 0) {
      this.#free.push(pageId);
      this.#usedPages--;
    }
  }

  /** References that a page has; 0 for a free one. */
  references(pageId: number): number {
    return this.#references[pageId] ?? 0;
  }

  /** Where the records of a held page lie. Throws InvalidArgumentError when nobody holds it. */
  records(pageId: number): PageRecords {
    this.#held(pageId);
    const { slabPages, geometry } = this.#options;
    const { records, pages } = this.#slabs[Math.floor(pageId / slabPages)] as Slab;
    const layerBytes = pageRecordBytes(geometry) / geometry.layers;
    return { buffer: records, offsetBytes: (pageId % slabPages) * layerBytes, layerStrideBytes: pages * layerBytes };
  }

  /** Gives all memory back. A second dispose does nothing. */
  dispose(): void {
    for (const slab of this.#slabs) {
      slab.summaries.dispose();
      slab.records.dispose();
    }
    this.#slabs.length = 0;
    this.addressTable.dispose();
  }

  /** References of a page that has some. */
  #held(pageId: number): number {
    const references = this.references(pageId);
    if (references === 0) {
      throw new InvalidArgumentError({ argument: "pageId", expected: "a page that is in use", received: pageId });
    }
    return references;
  }

  #grow(): void {
    const { context, geometry, capacityPages, slabPages, summaryKind, recordKind } = this.#options;
    const first = this.#slabs.length * slabPages;
    const pages = Math.min(slabPages, capacityPages - first);
    const summaryBytes = pageSummaryBytes(geometry);
    const layerBytes = pageRecordBytes(geometry) / geometry.layers;
    const summaries = context.allocate(pages * summaryBytes, summaryKind);
    let records: DeviceBuffer | undefined;
    try {
      records = context.allocate(pages * pageRecordBytes(geometry), recordKind);
      const addresses = new BigUint64Array(pages * PAGE_ADDRESS_FIELDS);
      for (let page = 0; page < pages; page++) {
        const at = page * PAGE_ADDRESS_FIELDS;
        addresses[at + PAGE_ADDRESS.SUMMARY] = summaries.address + BigInt(page * summaryBytes);
        addresses[at + PAGE_ADDRESS.RECORDS] = records.address + BigInt(page * layerBytes);
        addresses[at + PAGE_ADDRESS.RECORD_LAYER_BYTES] = BigInt(pages * layerBytes);
      }
      this.addressTable.write(first * PAGE_ADDRESS_FIELDS * 8, addresses);
    } catch (error) {
      summaries.dispose();
      records?.dispose();
      throw error;
    }
    this.#slabs.push({ summaries, records, pages });
    // Ids are taken from the end: those that were free before come first, then the smallest.
    this.#free = Array.from({ length: pages }, (_, index) => first + pages - 1 - index).concat(this.#free);
  }
}
