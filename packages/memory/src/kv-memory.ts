import {
  BUDGET_FIELDS,
  type Cache,
  type Codec,
  type Context,
  type DeviceBuffer,
  type MemoryKind,
} from "@pariskv/kernels";
import { DisposedError, InvalidArgumentError, OutOfMemoryError, requireInteger } from "@pariskv/quantizer";
import { checkGeometry, type KvGeometry } from "./geometry.js";
import {
  checkHotLines,
  DEFAULT_SLAB_PAGES,
  hotBytesPerSlot,
  MOST_SEQUENCE_TOKENS,
  MOST_SLOTS,
  pagesPerSequence,
  tableBytes,
  windowBytesPerSlot,
} from "./memory-sizes.js";
import { PagePool } from "./page-pool.js";
import { SequenceMemory } from "./sequence-memory.js";
import { checkZones, ringTokens, type ZoneShape } from "./zones.js";

/** What a {@link KvMemory} is made of. */
export interface KvMemoryOptions {
  readonly context: Context;
  readonly geometry: KvGeometry;
  readonly zones: ZoneShape;
  readonly codec: Codec;
  /** Sequences that can live at the same time. */
  readonly slots: number;
  /** Longest sequence. */
  readonly maxTokens: number;
  /** Pages of all sequences together. Default: enough for `slots` sequences of `maxTokens`. */
  readonly capacityPages?: number;
  /** Pages that one arena slab holds. Default 16. */
  readonly slabPages?: number;
  /** Whether to count keys per centroid, which tiered votes need. */
  readonly countIds: boolean;
  /** Where summaries live. Default `device`. */
  readonly summaryKind?: MemoryKind;
  /** Where the K and V of pages live. Default `mapped`. */
  readonly recordKind?: MemoryKind;
  /**
   * Lines of the hot set of each slot, layer and KV head: records that were fetched from host memory and stay on the device
   * for the next steps. 0 or a power of two; default 0, none. Only a device that is not its own host uses it.
   */
  readonly hotLines?: number;
}

/** Bytes that a {@link KvMemory} holds, by what they are for. */
export interface KvMemoryBytes {
  readonly window: number;
  readonly tables: number;
  /** Records of the hot set and their tags. */
  readonly hotSet: number;
  readonly summaries: number;
  readonly records: number;
}

/** The tables of a cache that are buffers of their own; the page addresses belong to the pool. */
interface Tables {
  readonly zoneTokens: DeviceBuffer;
  readonly pageTable: DeviceBuffer;
  readonly idCounts: DeviceBuffer | undefined;
  readonly invalidKeys: DeviceBuffer;
  readonly budget: DeviceBuffer;
  readonly calibration: DeviceBuffer;
}

/**
 * The KV memory of one model on one context: windows of all slots, the page pool, and the tables that the operators read.
 * Sequences are made by {@link KvMemory.createSequence} and forked from one another.
 */
export class KvMemory {
  readonly context: Context;
  readonly geometry: KvGeometry;
  readonly zones: ZoneShape;
  /** Longest sequence. */
  readonly maxTokens: number;
  /** Sequences that can live at the same time. */
  readonly slots: number;
  /** The cache that stages run on. */
  readonly cache: Cache;
  /** The pages of all sequences. */
  readonly pages: PagePool;
  readonly #window: DeviceBuffer;
  readonly #tables: Tables;
  readonly #hotSet: { readonly tags: DeviceBuffer; readonly records: DeviceBuffer } | undefined;
  readonly #taken: { dispose(): void }[] = [];
  readonly #freeSlots: number[];
  #disposed = false;

  /**
   * Takes windows and tables; pages are taken as they are needed.
   *
   * @throws InvalidArgumentError for shapes that cannot work, OutOfMemoryError with nothing leaked.
   */
  constructor(options: KvMemoryOptions) {
    const { context, geometry, zones, codec, slots, maxTokens, countIds, hotLines = 0 } = options;
    checkGeometry(geometry);
    checkZones(zones);
    checkHotLines(hotLines);
    requireInteger("slots", slots, 1, MOST_SLOTS);
    requireInteger("maxTokens", maxTokens, 1, MOST_SEQUENCE_TOKENS);
    this.context = context;
    this.geometry = geometry;
    this.zones = zones;
    this.maxTokens = maxTokens;
    this.slots = slots;
    const maxPages = pagesPerSequence(zones, maxTokens);
    const capacityPages = options.capacityPages ?? slots * maxPages;
    const bytes = tableBytes(geometry, { slots, maxPages, capacityPages, countIds });
    const take = <T extends { dispose(): void }>(thing: T): T => {
      this.#taken.push(thing);
      return thing;
    };
    try {
      this.pages = take(
        new PagePool({
          context,
          geometry,
          capacityPages,
          slabPages: options.slabPages ?? DEFAULT_SLAB_PAGES,
          summaryKind: options.summaryKind ?? "device",
          recordKind: options.recordKind ?? "mapped",
        }),
      );
      const allocate = (tableBytes: number) => take(context.allocate(tableBytes, "device"));
      this.#window = allocate(slots * windowBytesPerSlot(geometry, zones));
      this.#tables = {
        zoneTokens: allocate(bytes.zoneTokens),
        pageTable: allocate(bytes.pageTable),
        idCounts: countIds ? allocate(bytes.idCounts) : undefined,
        invalidKeys: allocate(bytes.invalidKeys),
        budget: allocate(bytes.budget),
        calibration: allocate(bytes.calibration),
      };
      if (hotLines > 0) {
        const hot = hotBytesPerSlot(geometry, hotLines);
        this.#hotSet = { tags: allocate(slots * hot.tags), records: allocate(slots * hot.records) };
      }
      const { zoneTokens, pageTable, idCounts, invalidKeys, budget, calibration } = this.#tables;
      this.cache = take(
        context.createCache({
          ...geometry,
          slots,
          sinkTokens: zones.sinkTokens,
          ringTokens: ringTokens(zones),
          maxPages,
          pageCapacity: capacityPages,
          zoneTokens: { buffer: zoneTokens },
          pageTable: { buffer: pageTable },
          pageAddress: { buffer: this.pages.addressTable },
          window: { buffer: this.#window },
          ...(idCounts && { idCounts: { buffer: idCounts } }),
          invalidKeys: { buffer: invalidKeys },
          budget: { buffer: budget },
          calibration: { buffer: calibration },
          ...(this.#hotSet && {
            hotSet: {
              lines: hotLines,
              tags: { buffer: this.#hotSet.tags },
              records: { buffer: this.#hotSet.records },
            },
          }),
          codec,
        }),
      );
      calibration.write(0, identityCalibration(geometry));
    } catch (error) {
      this.dispose();
      throw error;
    }
    // Slots are taken from the end: the smallest comes first.
    this.#freeSlots = Array.from({ length: slots }, (_, index) => slots - 1 - index);
  }

  /** Bytes taken so far, by purpose. */
  get bytes(): KvMemoryBytes {
    const tables = Object.values(this.#tables).reduce((sum, table) => sum + (table?.bytes ?? 0), 0);
    return {
      window: this.#window.bytes,
      tables: tables + this.pages.addressTable.bytes,
      hotSet: this.#hotSet ? this.#hotSet.tags.bytes + this.#hotSet.records.bytes : 0,
      ...this.pages.allocatedBytes,
    };
  }

  /** Sequences that can still be created. */
  get freeSlots(): number {
    return this.#freeSlots.length;
  }

  /**
   * Sets mu and D of every layer and KV head, `[layers, kvHeads, 2, headDim] f32` (section 6 of the algorithm).
   *
   * @throws InvalidArgumentError when the length is another, mu is not finite, D is not a positive number, or a page was
   * summarised with other values already.
   */
  writeCalibration(values: Float32Array): void {
    this.#use();
    const { headDim } = this.geometry;
    const { calibration } = this.#tables;
    const refuse = (expected: string, received: unknown): never => {
      throw new InvalidArgumentError({ argument: "calibration", expected, received });
    };
    if (values.length !== calibration.bytes / 4) refuse(`${calibration.bytes / 4} values`, values.length);
    for (const [index, value] of values.entries()) {
      const isBalance = index % (2 * headDim) >= headDim;
      if (!Number.isFinite(value) || (isBalance && value <= 0)) {
        refuse(isBalance ? "positive and finite where it balances" : "finite where it centres", value);
      }
    }
    if (this.pages.usedPages > 0) refuse("set before the first page is sealed", `${this.pages.usedPages} sealed pages`);
    calibration.write(0, values);
  }

  /**
   * Writes the budgets of one slot, `[layers, BUDGET_FIELDS] i32`.
   *
   * @throws InvalidArgumentError when there is no such slot or the length is another.
   */
  writeBudget(slot: number, values: Int32Array): void {
    this.#use();
    requireInteger("slot", slot, 0, this.slots - 1);
    const length = this.geometry.layers * BUDGET_FIELDS;
    if (values.length !== length) {
      throw new InvalidArgumentError({ argument: "values", expected: `${length} values`, received: values.length });
    }
    this.#tables.budget.write(slot * values.byteLength, values);
  }

  /**
   * Reads how many zero-norm and non-finite keys a slot's retrieval zone has, `[layers, kvHeads] u32`. Waits for the queue.
   *
   * @throws InvalidArgumentError when there is no such slot.
   */
  readInvalidKeys(slot: number): Uint32Array {
    this.#use();
    requireInteger("slot", slot, 0, this.slots - 1);
    const values = new Uint32Array(this.geometry.layers * this.geometry.kvHeads);
    this.#tables.invalidKeys.read(slot * values.byteLength, values);
    return values;
  }

  /**
   * Starts an empty sequence, with budgets of zero: dense.
   *
   * @throws OutOfMemoryError when every slot is taken.
   */
  createSequence(): SequenceMemory {
    this.#use();
    const slot = this.#freeSlots.pop();
    if (slot === undefined) {
      throw new OutOfMemoryError({
        kind: "sequence slot",
        requestedBytes: windowBytesPerSlot(this.geometry, this.zones),
        availableBytes: 0,
      });
    }
    this.#clearSlot(slot);
    return new SequenceMemory(this, slot, {
      writePage: (pageIndex, pageId) =>
        this.#tables.pageTable.write((slot * this.cache.params.maxPages + pageIndex) * 4, Uint32Array.of(pageId)),
      giveBack: () => this.#freeSlots.push(slot),
    });
  }

  /** Gives all memory back; sequences that are alive can only be disposed after it. A second dispose does nothing. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const thing of this.#taken.reverse()) thing.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #use(): void {
    if (this.#disposed) throw new DisposedError({ object: "KV memory" });
  }

  /** Forgets what the slot's last sequence left in the tables; its window is overwritten before it is read. */
  #clearSlot(slot: number): void {
    const { zoneTokens, invalidKeys, budget, idCounts } = this.#tables;
    for (const table of [zoneTokens, invalidKeys, budget, idCounts, this.#hotSet?.tags]) {
      if (!table) continue;
      const slotBytes = table.bytes / this.slots;
      table.write(slot * slotBytes, new Uint8Array(slotBytes));
    }
  }
}

/** mu = 0 and D = 1: the paper's scheme. */
function identityCalibration({ layers, kvHeads, headDim }: KvGeometry): Float32Array {
  const values = new Float32Array(layers * kvHeads * 2 * headDim);
  for (let head = 0; head < layers * kvHeads; head++) {
    values.fill(1, (2 * head + 1) * headDim, (2 * head + 2) * headDim);
  }
  return values;
}
