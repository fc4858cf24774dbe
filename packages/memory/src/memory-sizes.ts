import { BUDGET_FIELDS, MOST_HOT_LINES, PAGE_ADDRESS_FIELDS } from "@pariskv/kernels";
import { CENTROIDS, InvalidArgumentError, requireInteger, SUBSPACE_DIM } from "@pariskv/quantizer";
import { type KvGeometry, recordBytes } from "./geometry.js";
import { ringTokens, sealedPages, type ZoneShape } from "./zones.js";

/** Pages that one arena slab holds when nothing else is asked for. */
export const DEFAULT_SLAB_PAGES = 16;
/** The longest sequence that can be asked for: what the budget arithmetic keeps exact. */
export const MOST_SEQUENCE_TOKENS = 2 ** 26;
/** The most sequences that can live at the same time. */
export const MOST_SLOTS = 4096;

/**
 * Lines of a hot set for steps that fetch `topK` keys of a KV head: room for the keys of four steps at least, as far as a hot set
 * goes, because most keys of a step are wanted again by the next ones.
 */
export function hotLinesFor(topK: number): number {
  requireInteger("topK", topK, 1, Number.MAX_SAFE_INTEGER);
  return Math.min(MOST_HOT_LINES, 2 ** Math.ceil(Math.log2(4 * topK)));
}

/** Refuses numbers of hot lines that no cache has. Throws InvalidArgumentError. */
export function checkHotLines(hotLines: number): void {
  if (hotLines === 0) return;
  requireInteger("hotLines", hotLines, 4, MOST_HOT_LINES);
  if (!Number.isInteger(Math.log2(hotLines))) {
    throw new InvalidArgumentError({ argument: "hotLines", expected: "0 or a power of two", received: hotLines });
  }
}

/** Bytes of the hot sets of one slot, all layers and KV heads: the records, and their tags. */
export function hotBytesPerSlot(geometry: KvGeometry, hotLines: number) {
  const lines = geometry.layers * geometry.kvHeads * hotLines;
  return { records: lines * recordBytes(geometry), tags: lines * 4 };
}

/** Bytes of the window of one slot: sink and ring of all layers and KV heads. */
export function windowBytesPerSlot(geometry: KvGeometry, zones: ZoneShape): number {
  return geometry.layers * geometry.kvHeads * (zones.sinkTokens + ringTokens(zones)) * recordBytes(geometry);
}

/** Entries of one slot's page table: pages that a sequence of `maxTokens` can seal, at least one. */
export function pagesPerSequence(zones: ZoneShape, maxTokens: number): number {
  return Math.max(1, sealedPages(zones, maxTokens));
}

/** What the sizes of the tables depend on, beside the geometry. */
export interface TableShape {
  readonly slots: number;
  /** Entries of one slot's page table. */
  readonly maxPages: number;
  readonly capacityPages: number;
  /** Whether keys per centroid are counted. */
  readonly countIds: boolean;
}

/** Bytes of each table that the operators read, by its name in a cache. */
export function tableBytes(geometry: KvGeometry, { slots, maxPages, capacityPages, countIds }: TableShape) {
  const heads = geometry.layers * geometry.kvHeads;
  return {
    zoneTokens: slots * 4,
    pageTable: slots * maxPages * 4,
    pageAddress: capacityPages * PAGE_ADDRESS_FIELDS * 8,
    idCounts: countIds ? slots * heads * (geometry.headDim / SUBSPACE_DIM) * CENTROIDS * 4 : 0,
    invalidKeys: slots * heads * 4,
    budget: slots * geometry.layers * BUDGET_FIELDS * 4,
    calibration: heads * 2 * geometry.headDim * 4,
  };
}
