import type { MemoryKind } from "@pariskv/kernels";
import { OutOfMemoryError, requireInteger, requireOneOf } from "@pariskv/quantizer";
import { checkGeometry, type KvGeometry, pageRecordBytes, pageSummaryBytes } from "./geometry.js";
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
import { checkZones, sealedPages, type ZoneShape } from "./zones.js";

/** What is to be planned. */
export interface MemoryPlanRequest {
  readonly geometry: KvGeometry;
  readonly zones: ZoneShape;
  /** Tokens of each sequence. */
  readonly contextTokens: number;
  /** Sequences at the same time, each of `contextTokens`. */
  readonly sequences: number;
  /** Whether votes are tiered. */
  readonly countIds: boolean;
  /** Pages of one slab. Default 16, as in KvMemory. */
  readonly slabPages?: number;
  /** Where summaries live. Default `device`. */
  readonly summaryKind?: MemoryKind;
  /** Where the K and V of pages live. Default `mapped`. */
  readonly recordKind?: MemoryKind;
  /** Lines of the hot set of each KV head, as in KvMemory. Default 0: none. */
  readonly hotLines?: number;
  /** Bytes of model weights on the device. Default 0. */
  readonly weightBytes?: number;
  /**
   * Bytes of workspaces and activations on the device, or how they follow from the tokens of a sequence (they must not
   * shrink as it grows). Default 0.
   */
  readonly workspaceBytes?: number | ((contextTokens: number) => number);
}

/** One line of a memory plan. */
export interface MemoryPlanLine {
  readonly purpose: "weights" | "workspaces" | "window" | "tables" | "hot set" | "summaries" | "records";
  readonly kind: MemoryKind;
  readonly bytes: number;
}

/** What a request costs, by purpose and by kind of memory. */
export interface MemoryPlan {
  readonly lines: readonly MemoryPlanLine[];
  /** Bytes of each kind of memory. */
  readonly bytes: Readonly<Record<MemoryKind, number>>;
  /** Pages of all sequences. */
  readonly pages: number;
}

/** Free memory. On a machine whose device is its host, all kinds share one budget. */
export type MemoryLimits =
  | { readonly sharedBytes: number }
  | {
      readonly deviceBytes: number;
      /** Page-locked host memory, for pinned and mapped together. */
      readonly hostBytes: number;
    };

/** Whether a plan fits, and if not, which memory is short. */
export interface MemoryFit {
  readonly fits: boolean;
  readonly short?: {
    readonly kind: "host" | "device";
    readonly requestedBytes: number;
    readonly availableBytes: number;
  };
}

const MEMORY_KINDS: readonly MemoryKind[] = ["device", "pinned", "mapped"];

/**
 * What KvMemory will allocate for a request, from shapes alone: the same functions size the buffers, so that prediction
 * and allocation agree to the byte once every page is in use. What driver and system keep beside that, such as page tables,
 * is left out; docs/benchmarks/h200.md has what it was on one machine.
 *
 * @throws InvalidArgumentError for shapes and counts that KvMemory refuses.
 */
export function planMemory(request: MemoryPlanRequest): MemoryPlan {
  const { geometry, zones, contextTokens, sequences, countIds, workspaceBytes = 0 } = request;
  const { hotLines = 0 } = request;
  const { slabPages = DEFAULT_SLAB_PAGES, summaryKind = "device", recordKind = "mapped", weightBytes = 0 } = request;
  checkGeometry(geometry);
  checkZones(zones);
  requireInteger("contextTokens", contextTokens, 1, MOST_SEQUENCE_TOKENS);
  requireInteger("sequences", sequences, 1, MOST_SLOTS);
  requireInteger("slabPages", slabPages, 1, 2 ** 24);
  requireOneOf("summaryKind", summaryKind, MEMORY_KINDS);
  requireOneOf("recordKind", recordKind, MEMORY_KINDS);
  checkHotLines(hotLines);
  requireInteger("weightBytes", weightBytes, 0, Number.MAX_SAFE_INTEGER);
  const workspaces = typeof workspaceBytes === "function" ? workspaceBytes(contextTokens) : workspaceBytes;
  requireInteger("workspaceBytes", workspaces, 0, Number.MAX_SAFE_INTEGER);

  const maxPages = pagesPerSequence(zones, contextTokens);
  const capacityPages = sequences * maxPages;
  const pages = sequences * sealedPages(zones, contextTokens);
  // Pages are taken slab by slab; the last slab of the pool is cut to its capacity.
  const heldPages = Math.min(capacityPages, Math.ceil(pages / slabPages) * slabPages);
  const tables = tableBytes(geometry, { slots: sequences, maxPages, capacityPages, countIds });
  const hot = hotBytesPerSlot(geometry, hotLines);
  const all: MemoryPlanLine[] = [
    { purpose: "weights", kind: "device", bytes: weightBytes },
    { purpose: "workspaces", kind: "device", bytes: workspaces },
    { purpose: "window", kind: "device", bytes: sequences * windowBytesPerSlot(geometry, zones) },
    { purpose: "tables", kind: "device", bytes: Object.values(tables).reduce((sum, value) => sum + value, 0) },
    { purpose: "hot set", kind: "device", bytes: sequences * (hot.records + hot.tags) },
    { purpose: "summaries", kind: summaryKind, bytes: heldPages * pageSummaryBytes(geometry) },
    { purpose: "records", kind: recordKind, bytes: heldPages * pageRecordBytes(geometry) },
  ];
  const lines = all.filter((line) => line.bytes > 0);
  const bytes: Record<MemoryKind, number> = { device: 0, pinned: 0, mapped: 0 };
  for (const line of lines) bytes[line.kind] += line.bytes;
  return { lines, bytes, pages };
}

/** Compares a plan with the memory that is free. */
export function fitMemory(plan: MemoryPlan, limits: MemoryLimits): MemoryFit {
  const host = plan.bytes.pinned + plan.bytes.mapped;
  const budgets =
    "sharedBytes" in limits
      ? [{ kind: "host" as const, requestedBytes: host + plan.bytes.device, availableBytes: limits.sharedBytes }]
      : [
          { kind: "device" as const, requestedBytes: plan.bytes.device, availableBytes: limits.deviceBytes },
          { kind: "host" as const, requestedBytes: host, availableBytes: limits.hostBytes },
        ];
  const short = budgets.find((budget) => budget.requestedBytes > budget.availableBytes);
  return short ? { fits: false, short } : { fits: true };
}

/** Throws OutOfMemoryError with the numbers when a plan does not fit. */
export function requireFit(plan: MemoryPlan, limits: MemoryLimits): void {
  const { short } = fitMemory(plan, limits);
  if (short) throw new OutOfMemoryError(short);
}

/**
 * The longest context, at most `maxTokens` tokens, that fits with the other numbers of `request`; 0 when none does.
 *
 * @throws InvalidArgumentError as planMemory.
 */
export function longestContext(request: MemoryPlanRequest, limits: MemoryLimits, maxTokens: number): number {
  const fits = (contextTokens: number) => fitMemory(planMemory({ ...request, contextTokens }), limits).fits;
  if (fits(maxTokens)) return maxTokens;
  // Bytes never shrink as a context grows: what fits is a prefix of the lengths.
  let longest = 0;
  let tooLong = maxTokens;
  while (tooLong - longest > 1) {
    const middle = Math.floor((longest + tooLong) / 2);
    if (fits(middle)) longest = middle;
    else tooLong = middle;
  }
  return longest;
}
