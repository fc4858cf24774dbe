import { InvalidArgumentError, PAGE_TOKENS } from "@pariskv/quantizer";
import type {
  CacheParams,
  Codec,
  DeviceBuffer,
  Dtype,
  HotSet,
  MemoryKind,
  PlanParams,
  Ref,
  Rows,
  Step,
} from "./context.js";
import { BUDGET_FIELDS, MOST_HOT_LINES, PAGE_ADDRESS_FIELDS, ROW_FIELDS } from "./layout.js";

// The checks that every backend makes before it queues anything: shapes, ranges, and that everything referenced lies
// inside its buffer. Whether a buffer belongs to the context and is still in use is the backend's own check.

/** Largest index that native code holds in 32 bits. */
export const MAX_INDEX = 2 ** 31 - 1;

/** Throws InvalidArgumentError. */
export function refuse(argument: string, expected: string, received: unknown): never {
  throw new InvalidArgumentError({ argument, expected, received });
}

/** Throws InvalidArgumentError unless `value` is an integer in `[min, max]`. */
export function checkInteger(argument: string, value: number, min: number, max = MAX_INDEX): void {
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    refuse(argument, max === Number.MAX_SAFE_INTEGER ? `an integer >= ${min}` : `an integer in ${min}..${max}`, value);
  }
}

/** Throws InvalidArgumentError unless `value` is one of `allowed`. */
export function checkOneOf<T>(argument: string, value: T, allowed: readonly T[]): void {
  if (!allowed.includes(value)) refuse(argument, allowed.map((item) => JSON.stringify(item)).join(" or "), value);
}

const DTYPES: readonly Dtype[] = ["f32", "bf16", "f16"];
const MEMORY_KINDS: readonly MemoryKind[] = ["device", "pinned", "mapped"];

/** Bytes of one element. Throws InvalidArgumentError for an unknown `dtype`. */
export function dtypeBytes(argument: string, dtype: Dtype): number {
  checkOneOf(argument, dtype, DTYPES);
  return dtype === "f32" ? 4 : 2;
}

/** Checks the arguments of `allocate`. */
export function checkAllocation(bytes: number, kind: MemoryKind): void {
  checkInteger("bytes", bytes, 1, Number.MAX_SAFE_INTEGER);
  checkMemoryKind(kind);
}

/** Checks a kind of memory. */
export function checkMemoryKind(kind: MemoryKind): void {
  checkOneOf("kind", kind, MEMORY_KINDS);
}

/** Checks one read or write: `view` placed at `offsetBytes` lies inside `bytes`. */
export function checkTransfer(bytes: number, offsetBytes: number, argument: string, view: ArrayBufferView): void {
  if (!ArrayBuffer.isView(view)) refuse(argument, "a typed array", view);
  checkInteger("offsetBytes", offsetBytes, 0, Number.MAX_SAFE_INTEGER);
  if (offsetBytes + view.byteLength > bytes) {
    refuse(argument, `at most ${Math.max(0, bytes - offsetBytes)} bytes at byte ${offsetBytes}`, view);
  }
}

/** Checks that `bytes` bytes at `ref` lie inside its buffer and begin at a multiple of `alignBytes`. */
export function checkRef(argument: string, ref: Ref, bytes: number, alignBytes = 4): void {
  const buffer: DeviceBuffer | undefined = ref?.buffer;
  if (typeof buffer?.bytes !== "number") refuse(argument, "a place in a buffer", ref);
  const offsetBytes = ref.offsetBytes ?? 0;
  checkInteger(`${argument}.offsetBytes`, offsetBytes, 0, Number.MAX_SAFE_INTEGER);
  if (offsetBytes % alignBytes !== 0) refuse(`${argument}.offsetBytes`, `a multiple of ${alignBytes}`, offsetBytes);
  if (offsetBytes + bytes > buffer.bytes) {
    refuse(argument, `${bytes} bytes inside its buffer`, `${Math.max(0, buffer.bytes - offsetBytes)} bytes`);
  }
}

/** Checks `rowCount` f32 rows of `width` elements. */
export function checkRows(argument: string, rows: Rows, rowCount: number, width: number): void {
  if (rows === undefined || rows === null) refuse(argument, "rows in a buffer", rows);
  checkInteger(`${argument}.rowStride`, rows.rowStride, width);
  checkRef(argument, rows, 4 * ((rowCount - 1) * rows.rowStride + width));
}

/** Checks a row table; `maxRows` is the plan's capacity where there is one. */
export function checkStep(step: Step, maxRows = MAX_INDEX): void {
  checkInteger("step.rowCount", step?.rowCount, 1, maxRows);
  checkRef("step.table", step.table, 4 * ROW_FIELDS * step.rowCount);
}

/** Bytes of K and V of one token and KV head. */
export function recordBytes(params: CacheParams): number {
  return 2 * params.headDim * dtypeBytes("kvDtype", params.kvDtype);
}

function checkCodec(codec: Codec, headDim: number): void {
  const lengths = { signs: headDim, centres: 8, thresholds: 7 } as const;
  for (const [name, length] of Object.entries(lengths) as [keyof typeof lengths, number][]) {
    const values = codec?.[name];
    if (!(values instanceof Float32Array) || values.length !== length) {
      refuse(`codec.${name}`, `a Float32Array of ${length} elements`, values);
    }
  }
  for (const sign of codec.signs) if (sign !== 1 && sign !== -1) refuse("codec.signs", "all +1 or -1", sign);
  for (const name of ["centres", "thresholds"] as const) {
    const values = codec[name];
    for (let i = 0; i < values.length; i++) {
      const ascends = i === 0 ? values[0]! > 0 : values[i]! > values[i - 1]!;
      if (!ascends) refuse(`codec.${name}`, "positive and ascending", values[i]);
    }
  }
}

/** Checks the shapes of a cache and that each of its tables lies inside its buffer. */
export function checkCacheParams(params: CacheParams): void {
  checkInteger("layers", params.layers, 1);
  checkInteger("kvHeads", params.kvHeads, 1);
  checkInteger("queryGroup", params.queryGroup, 1, 8);
  checkOneOf("headDim", params.headDim, [64, 128, 256]);
  const elementBytes = dtypeBytes("kvDtype", params.kvDtype);
  checkInteger("slots", params.slots, 1);
  checkInteger("sinkTokens", params.sinkTokens, 0);
  checkInteger("ringTokens", params.ringTokens, 1);
  checkInteger("maxPages", params.maxPages, 1, Math.floor(MAX_INDEX / PAGE_TOKENS));
  checkInteger("pageCapacity", params.pageCapacity, 1);
  const { layers, kvHeads, headDim, slots } = params;
  const heads = slots * layers * kvHeads;
  checkRef("zoneTokens", params.zoneTokens, 4 * slots);
  checkRef("pageTable", params.pageTable, 4 * slots * params.maxPages);
  checkRef("pageAddress", params.pageAddress, 8 * PAGE_ADDRESS_FIELDS * params.pageCapacity, 8);
  checkRef(
    "window",
    params.window,
    heads * (params.sinkTokens + params.ringTokens) * recordBytes(params),
    elementBytes,
  );
  if (params.idCounts !== undefined) checkRef("idCounts", params.idCounts, 4 * heads * (headDim / 8) * 256);
  checkRef("invalidKeys", params.invalidKeys, 4 * heads);
  checkRef("budget", params.budget, 4 * slots * layers * BUDGET_FIELDS);
  checkRef("calibration", params.calibration, 4 * layers * kvHeads * 2 * headDim);
  if (params.hotSet !== undefined) checkHotSet(params.hotSet, heads, recordBytes(params));
  checkCodec(params.codec, headDim);
}

function checkHotSet({ lines, tags, records }: HotSet, heads: number, lineBytes: number): void {
  checkInteger("hotSet.lines", lines, 4, MOST_HOT_LINES);
  if (!Number.isInteger(Math.log2(lines))) refuse("hotSet.lines", "a power of two", lines);
  checkRef("hotSet.tags", tags, 4 * heads * lines, 16);
  checkRef("hotSet.records", records, heads * lines * lineBytes, 16);
}

/** Checks the capacities and policies of a plan. */
export function checkPlanParams(params: PlanParams): void {
  checkInteger("maxRows", params.maxRows, 1);
  checkInteger("maxZoneTokens", params.maxZoneTokens, 1);
  checkInteger("maxCandidates", params.maxCandidates, 1);
  checkInteger("maxTopK", params.maxTopK, 1);
  checkOneOf("votes", params.votes, ["tiered", "graded"]);
  checkOneOf("group", params.group, ["mean", "max", "sum"]);
  if (params.votes === "tiered" && params.cache.params.idCounts === undefined) {
    refuse("cache.idCounts", "a buffer when votes are tiered", undefined);
  }
}
