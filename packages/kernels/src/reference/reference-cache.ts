import { type Calibration, DisposedError, PAGE_TOKENS, type Quantizer, summaryLayout } from "@pariskv/quantizer";
import type { Cache, CacheParams, Codec, Ref } from "../context.js";
import { BUDGET, BUDGET_FIELDS, PAGE_ADDRESS, PAGE_ADDRESS_FIELDS } from "../layout.js";
import { recordBytes } from "../validate.js";
import type { Place, ReferenceMemory } from "./reference-memory.js";

/** The tables of a cache as typed arrays, and where the bytes of a token lie. */
export class ReferenceCache implements Cache {
  /** `[slots] i32`. */
  readonly zoneTokens: Int32Array;
  /** `[slots, layers, kvHeads] u32`. */
  readonly invalidKeys: Uint32Array;
  /** `[slots, layers, kvHeads, headDim / 8, 256] u32`, or undefined without tiered votes. */
  readonly idCounts: Uint32Array | undefined;
  /** The constants of the codec as the quantiser wants them. */
  readonly quantizer: Quantizer;
  readonly queryHeads: number;
  /** Bytes of K and V of one token and KV head. */
  readonly recordBytes: number;

  readonly #pageTable: Uint32Array;
  readonly #pageAddress: Uint32Array;
  readonly #budget: Int32Array;
  /** The budget table again: a tier limit is never negative, and the quantiser takes it as u32. */
  readonly #tierLimits: Uint32Array;
  readonly #calibrations: readonly Calibration[];
  readonly #window: Place;
  readonly #headPageBytes: number;
  #disposed = false;

  constructor(
    readonly params: CacheParams,
    readonly memory: ReferenceMemory,
  ) {
    const { layers, kvHeads, queryGroup, headDim, slots, maxPages, pageCapacity } = params;
    const heads = slots * layers * kvHeads;
    const at = (name: string, ref: Ref) => {
      const { storage, offsetBytes } = memory.resolve(name, ref);
      return { storage, index: offsetBytes / 4 };
    };
    const i32 = (name: string, ref: Ref, length: number) => {
      const { storage, index } = at(name, ref);
      return storage.i32.subarray(index, index + length);
    };
    const u32 = (name: string, ref: Ref, length: number) => {
      const { storage, index } = at(name, ref);
      return storage.u32.subarray(index, index + length);
    };
    this.zoneTokens = i32("zoneTokens", params.zoneTokens, slots);
    this.#pageTable = u32("pageTable", params.pageTable, slots * maxPages);
    this.#pageAddress = u32("pageAddress", params.pageAddress, 2 * PAGE_ADDRESS_FIELDS * pageCapacity);
    this.#window = memory.resolve("window", params.window);
    this.idCounts = params.idCounts && u32("idCounts", params.idCounts, heads * (headDim / 8) * 256);
    this.invalidKeys = u32("invalidKeys", params.invalidKeys, heads);
    this.#budget = i32("budget", params.budget, slots * layers * BUDGET_FIELDS);
    this.#tierLimits = u32("budget", params.budget, slots * layers * BUDGET_FIELDS);
    const { storage, index } = at("calibration", params.calibration);
    this.#calibrations = Array.from({ length: layers * kvHeads }, (_, head) => {
      const start = index + head * 2 * headDim;
      return {
        mode: "balance" as const,
        center: storage.f32.subarray(start, start + headDim),
        balance: storage.f32.subarray(start + headDim, start + 2 * headDim),
      };
    });
    this.quantizer = quantizerOf(params.codec, headDim);
    this.queryHeads = kvHeads * queryGroup;
    this.recordBytes = recordBytes(params);
    this.#headPageBytes = summaryLayout(headDim).headPageBytes;
  }

  /** Index of a slot, layer and KV head in the tables that have an entry for each. */
  headIndex(slot: number, layer: number, head: number): number {
    return (slot * this.params.layers + layer) * this.params.kvHeads + head;
  }

  /** One field of a budget entry. */
  budget(slot: number, layer: number, field: number): number {
    return this.#budget[(slot * this.params.layers + layer) * BUDGET_FIELDS + field]!;
  }

  /** The six tier limits of a budget entry. */
  tierLimits(slot: number, layer: number): Uint32Array {
    const start = (slot * this.params.layers + layer) * BUDGET_FIELDS;
    return this.#tierLimits.subarray(start + BUDGET.TIER_0, start + BUDGET_FIELDS);
  }

  /** The calibration of a layer and KV head; views of the table, so later writes to it are seen. */
  calibration(layer: number, head: number): Calibration {
    return this.#calibrations[layer * this.params.kvHeads + head] as Calibration;
  }

  /** Page id of page number `pageIndex` of a slot. */
  pageId(slot: number, pageIndex: number): number {
    return this.#pageTable[slot * this.params.maxPages + pageIndex]!;
  }

  /** The summary planes of a page for one layer and KV head, `[headPageBytes] u8`. */
  summary(pageId: number, layer: number, head: number): Uint8Array {
    const { storage, offsetBytes } = this.memory.at(...this.#pageField(pageId, PAGE_ADDRESS.SUMMARY));
    const start = offsetBytes + (layer * this.params.kvHeads + head) * this.#headPageBytes;
    return storage.u8.subarray(start, start + this.#headPageBytes);
  }

  /** The summaries of every page of a slot's retrieval zone for one layer and KV head. */
  summaries(slot: number, layer: number, head: number): Uint8Array[] {
    const pages = Math.ceil(this.zoneTokens[slot]! / PAGE_TOKENS);
    return Array.from({ length: pages }, (_, page) => this.summary(this.pageId(slot, page), layer, head));
  }

  /** The records of a page for one layer and KV head, `[512, 2, headDim] kvDtype`. */
  records(pageId: number, layer: number, head: number): Place {
    const { storage, offsetBytes } = this.memory.at(...this.#pageField(pageId, PAGE_ADDRESS.RECORDS));
    const [low, high] = this.#pageField(pageId, PAGE_ADDRESS.RECORD_LAYER_BYTES);
    const layerBytes = high * 2 ** 32 + low;
    return { storage, offsetBytes: offsetBytes + layer * layerBytes + head * PAGE_TOKENS * this.recordBytes };
  }

  /** The window of a slot, layer and KV head, `[sinkTokens + ringTokens, 2, headDim] kvDtype`. */
  window(slot: number, layer: number, head: number): Place {
    const tokens = this.params.sinkTokens + this.params.ringTokens;
    const start = this.headIndex(slot, layer, head) * tokens * this.recordBytes;
    return { storage: this.#window.storage, offsetBytes: this.#window.offsetBytes + start };
  }

  /** Row of the window that holds the token at `position`, while it is in the sink or in the ring. */
  windowRow(position: number): number {
    const { sinkTokens, ringTokens } = this.params;
    return position < sinkTokens ? position : sinkTokens + ((position - sinkTokens) % ringTokens);
  }

  dispose(): void {
    this.#disposed = true;
  }

  /** Throws DisposedError after dispose. */
  requireInUse(): void {
    if (this.#disposed) throw new DisposedError({ object: "cache" });
  }

  /** One field of a page address entry: its low and its high 32 bits. */
  #pageField(pageId: number, field: number): [low: number, high: number] {
    const entry = 2 * (pageId * PAGE_ADDRESS_FIELDS + field);
    return [this.#pageAddress[entry]!, this.#pageAddress[entry + 1]!];
  }
}

function quantizerOf(codec: Codec, headDim: number): Quantizer {
  const { signs, centres, thresholds } = codec;
  return {
    headDim,
    subspaceDim: 8,
    subspaces: headDim / 8,
    magnitudeBits: 3,
    seed: 0, // of no use where the signs themselves are given
    signs: signs.slice(),
    levels: {
      subspaceDim: 8,
      magnitudeBits: 3,
      centers: Float64Array.from(centres),
      thresholds: Float64Array.from(thresholds),
      centersFloat32: centres.slice(),
      thresholdsFloat32: thresholds.slice(),
      values: Float32Array.from({ length: 16 }, (_, code) => (code < 8 ? -1 : 1) * centres[code & 7]!),
    },
  };
}
