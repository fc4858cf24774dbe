import { encodeBfloat16, encodeFloat16, PAGE_TOKENS, summaryLayout, TIER_SHARES_PERCENT } from "@pariskv/quantizer";
import type {
  Cache,
  Context,
  DeviceBuffer,
  Dtype,
  HotSet,
  Plan,
  PlanField,
  PlanParams,
  Rows,
  Step,
} from "../../src/context.js";
import { BUDGET, BUDGET_FIELDS, MODE, PAGE_ADDRESS, PAGE_ADDRESS_FIELDS } from "../../src/layout.js";
import { Random } from "./random.js";
import {
  createSceneData,
  type ModeName,
  recordIndex,
  type SceneData,
  type SceneOptions,
  sequenceTokens,
} from "./scene-data.js";

/** One row of a step. */
export interface RowPlace {
  readonly slot: number;
  readonly position: number;
}

/** Values as elements of the dtype. */
export function encodeAs(dtype: Dtype, values: Float32Array): Float32Array | Uint16Array {
  if (dtype === "f32") return values;
  const halves = new Uint16Array(values.length);
  if (dtype === "bf16") encodeBfloat16(values, halves);
  else encodeFloat16(values, halves);
  return halves;
}

/** Allocates a buffer that holds `values`. */
export function upload(context: Context, values: ArrayBufferView): DeviceBuffer {
  const buffer = context.allocate(Math.max(8, values.byteLength), "device");
  buffer.write(0, values);
  return buffer;
}

/**
 * A cache and a plan on a context, filled as a memory manager would have: sinks and rings in the window, the retrieval
 * zones in pages that are scattered over the page table.
 */
export class Scene {
  /** What the scene holds; a test that moves tokens puts in what it should hold then. */
  data: SceneData;
  readonly cache: Cache;
  readonly plan: Plan;
  /** Every slot at its last position, in order. */
  readonly rows: readonly RowPlace[];
  readonly budget: DeviceBuffer;
  readonly zoneTokens: DeviceBuffer;
  readonly pageTable: DeviceBuffer;
  readonly window: DeviceBuffer;
  readonly summaries: DeviceBuffer;
  /** `[layers, pageCapacity, kvHeads, 512, 2, headDim] kvDtype`. */
  readonly pageRecords: DeviceBuffer;
  readonly invalidKeys: DeviceBuffer;
  readonly idCounts: DeviceBuffer;
  /** `[rows, queryHeads, headDim] f32` of the last `decode`. */
  readonly out: DeviceBuffer;

  constructor(
    readonly context: Context,
    from: SceneOptions | SceneData,
    plan: Partial<Pick<PlanParams, "maxRows" | "maxZoneTokens" | "maxTopK" | "estimateMass">> & {
      /** Lines of a hot set. Default: none. */
      readonly hotLines?: number;
    } = {},
  ) {
    this.data = "records" in from ? from : createSceneData(from);
    const { options, quantizer } = this.data;
    const { layers, kvHeads, queryGroup, headDim, kvDtype, sinkTokens, ringTokens, sequences, votes } = options;
    const slots = sequences.length;
    const longest = Math.max(1, ...sequences.map(({ zoneTokens }) => zoneTokens));
    const maxPages = Math.ceil(longest / PAGE_TOKENS) + 2;
    const pageCapacity = slots * maxPages;
    const headPages = layers * kvHeads;
    const pageBytes = headPages * summaryLayout(headDim).headPageBytes;
    const elementBytes = kvDtype === "f32" ? 4 : 2;
    const layerElements = kvHeads * PAGE_TOKENS * 2 * headDim; // of a page
    const layerBytes = pageCapacity * layerElements * elementBytes;

    this.summaries = context.allocate(pageCapacity * pageBytes, "device");
    this.pageRecords = context.allocate(layers * layerBytes, "mapped");
    const pageIds = new Random(options.seed + 1).permutation(pageCapacity);
    this.pageTable = upload(context, Uint32Array.from(pageIds));
    const addresses = new BigUint64Array(PAGE_ADDRESS_FIELDS * pageCapacity);
    for (let page = 0; page < pageCapacity; page++) {
      const at = PAGE_ADDRESS_FIELDS * page;
      addresses[at + PAGE_ADDRESS.SUMMARY] = this.summaries.address + BigInt(page * pageBytes);
      addresses[at + PAGE_ADDRESS.RECORDS] = this.pageRecords.address + BigInt(page * layerElements * elementBytes);
      addresses[at + PAGE_ADDRESS.RECORD_LAYER_BYTES] = BigInt(layerBytes);
    }
    for (const [slot, pages] of this.data.summaries.entries()) {
      for (const [index, page] of pages.entries()) {
        const pageId = pageIds[slot * maxPages + index]!;
        this.summaries.write(pageId * pageBytes, page);
        const records = encodeAs(kvDtype, pageRecords(this.data, slot, index));
        for (let layer = 0; layer < layers; layer++) {
          const ofLayer = records.subarray(layer * layerElements, (layer + 1) * layerElements);
          this.pageRecords.write(layer * layerBytes + pageId * ofLayer.byteLength, ofLayer);
        }
      }
    }
    this.window = upload(context, encodeAs(kvDtype, windowRecords(this.data)));
    this.zoneTokens = upload(
      context,
      Int32Array.from(sequences, ({ zoneTokens }) => zoneTokens),
    );
    this.invalidKeys = upload(context, this.data.invalidKeys);
    this.idCounts = upload(context, this.data.idCounts);
    this.budget = context.allocate(4 * slots * layers * BUDGET_FIELDS, "device");
    this.cache = context.createCache({
      layers,
      kvHeads,
      queryGroup,
      headDim,
      kvDtype,
      slots,
      sinkTokens,
      ringTokens,
      maxPages,
      pageCapacity,
      zoneTokens: { buffer: this.zoneTokens },
      pageTable: { buffer: this.pageTable },
      pageAddress: { buffer: upload(context, addresses) },
      window: { buffer: this.window },
      ...(votes === "tiered" ? { idCounts: { buffer: this.idCounts } } : {}),
      invalidKeys: { buffer: this.invalidKeys },
      budget: { buffer: this.budget },
      calibration: { buffer: upload(context, this.data.calibration) },
      ...(plan.hotLines && { hotSet: this.#hotSet(plan.hotLines) }),
      codec: {
        signs: quantizer.signs,
        centres: quantizer.levels.centersFloat32,
        thresholds: quantizer.levels.thresholdsFloat32,
      },
    });
    const maxZoneTokens = plan.maxZoneTokens ?? longest;
    this.plan = context.createPlan({
      cache: this.cache,
      maxRows: plan.maxRows ?? slots,
      maxZoneTokens,
      maxCandidates: maxZoneTokens,
      maxTopK: plan.maxTopK ?? Math.max(1, options.topK),
      votes,
      group: options.group,
      estimateMass: plan.estimateMass ?? true,
    });
    this.setMode(options.mode);
    this.rows = sequences.map((_, slot) => ({ slot, position: sequenceTokens(this.data, slot) - 1 }));
    this.out = context.allocate(4 * Math.max(slots, plan.maxRows ?? 1) * this.queryWidth, "device");
  }

  #hotSet(lines: number): HotSet {
    const { layers, kvHeads, headDim, kvDtype, sequences } = this.data.options;
    const allLines = sequences.length * layers * kvHeads * lines;
    const tags = this.context.allocate(4 * allLines, "device");
    const records = this.context.allocate(allLines * 2 * headDim * (kvDtype === "f32" ? 4 : 2), "device");
    return { lines, tags: { buffer: tags }, records: { buffer: records } };
  }

  /** Query heads times head dimension. */
  get queryWidth(): number {
    const { kvHeads, queryGroup, headDim } = this.data.options;
    return kvHeads * queryGroup * headDim;
  }

  /** Writes the budget table, one ladder for all slots and layers; counts by the zone that each slot has now. */
  setMode(mode: ModeName, candidates = this.data.options.candidates): void {
    const { layers, sequences, topK } = this.data.options;
    const zones = this.read(this.zoneTokens, new Int32Array(sequences.length));
    const table = new Int32Array(sequences.length * layers * BUDGET_FIELDS);
    for (let entry = 0; entry < sequences.length * layers; entry++) {
      const zone = zones[Math.floor(entry / layers)]!;
      const fields = table.subarray(entry * BUDGET_FIELDS, (entry + 1) * BUDGET_FIELDS);
      fields[BUDGET.MODE] = { dense: MODE.DENSE, scan: MODE.SCAN, vote: MODE.VOTE }[mode];
      fields[BUDGET.CANDIDATES] = candidates ?? Math.ceil(zone / 5);
      fields[BUDGET.TOP_K] = topK;
      // A quarter of the zone is activated: ceil of an exact quotient of integers.
      fields.set(
        TIER_SHARES_PERCENT.map((percent) => Math.ceil((zone * percent) / 400)),
        BUDGET.TIER_0,
      );
    }
    this.budget.write(0, table);
  }

  /** A row table on the device. */
  step(rows: readonly RowPlace[] = this.rows): Step {
    const table = Int32Array.from(rows.flatMap(({ slot, position }) => [slot, position]));
    return { table: { buffer: upload(this.context, table) }, rowCount: rows.length };
  }

  /** The drawn queries of a layer, one row for each of `rows`; a skipped row gets those of slot 0. */
  queries(layer: number, rows: readonly RowPlace[] = this.rows): Rows {
    const values = new Float32Array(rows.length * this.queryWidth);
    for (const [row, { slot }] of rows.entries()) values.set(this.queryValues(layer, slot), row * this.queryWidth);
    return { buffer: upload(this.context, values), rowStride: this.queryWidth };
  }

  /** The drawn queries of a layer and slot, `[queryHeads, headDim] f32`. */
  queryValues(layer: number, slot: number): Float32Array {
    const start = (layer * this.data.options.sequences.length + Math.max(0, slot)) * this.queryWidth;
    return this.data.queries.subarray(start, start + this.queryWidth);
  }

  /** Runs the retrieval stages of one layer and returns `[rows, queryHeads, headDim] f32`. */
  decode(layer = 0, rows: readonly RowPlace[] = this.rows): Float32Array {
    const { context, plan } = this;
    const step = this.step(rows);
    const q = this.queries(layer, rows);
    const out = { buffer: this.out, rowStride: this.queryWidth };
    context.probe({ plan, layer, step, q });
    context.collide({ plan, layer, step });
    context.select({ plan, layer, step });
    context.rerank({ plan, layer, step });
    context.attend({ plan, layer, step, q, out });
    return this.read(this.out, new Float32Array(rows.length * this.queryWidth));
  }

  /** Reads `target.length` elements of a buffer. */
  read<T extends ArrayBufferView>(buffer: DeviceBuffer, target: T, offsetBytes = 0): T {
    buffer.read(offsetBytes, target);
    return target;
  }

  /** Reads a workspace of the plan from its beginning. */
  readField<T extends ArrayBufferView>(name: PlanField, target: T): T {
    const { buffer, offsetBytes } = this.plan.field(name);
    return this.read(buffer, target, offsetBytes);
  }

  /** Page id of page number `pageIndex` of a slot. */
  pageId(slot: number, pageIndex: number): number {
    const { maxPages } = this.cache.params;
    return this.read(this.pageTable, new Uint32Array(1), 4 * (slot * maxPages + pageIndex))[0]!;
  }
}

/** The records of a page, `[layers, kvHeads, 512, 2, headDim] f32`; zeros behind the end of the zone. */
export function pageRecords(data: SceneData, slot: number, pageIndex: number): Float32Array {
  const { layers, kvHeads, headDim, sinkTokens, sequences } = data.options;
  const first = pageIndex * PAGE_TOKENS;
  const tokens = Math.min(PAGE_TOKENS, sequences[slot]!.zoneTokens - first);
  const records = new Float32Array(layers * kvHeads * PAGE_TOKENS * 2 * headDim);
  for (let head = 0; head < layers * kvHeads; head++) {
    const from = recordIndex(data, slot, 0, head, sinkTokens + first);
    const values = data.records[slot]!.subarray(from, from + tokens * 2 * headDim);
    records.set(values, head * PAGE_TOKENS * 2 * headDim);
  }
  return records;
}

/** `[slots, layers, kvHeads, sinkTokens + ringTokens, 2, headDim] f32`; rows that hold no token are NaN. */
function windowRecords(data: SceneData): Float32Array {
  const { layers, kvHeads, headDim, sinkTokens, ringTokens, sequences } = data.options;
  const windowTokens = sinkTokens + ringTokens;
  // Whoever reads a row that no token is in will be found out.
  const window = new Float32Array(sequences.length * layers * kvHeads * windowTokens * 2 * headDim).fill(Number.NaN);
  for (const [slot, { zoneTokens, ringUsed }] of sequences.entries()) {
    if (ringUsed > ringTokens) throw new RangeError(`a ring of ${ringTokens} tokens cannot hold ${ringUsed}`);
    for (let head = 0; head < layers * kvHeads; head++) {
      const to = (slot * layers * kvHeads + head) * windowTokens;
      const copy = (position: number, row: number) => {
        const from = recordIndex(data, slot, 0, head, position);
        window.set(data.records[slot]!.subarray(from, from + 2 * headDim), (to + row) * 2 * headDim);
      };
      for (let position = 0; position < sinkTokens; position++) copy(position, position);
      for (let i = 0; i < ringUsed; i++) {
        copy(sinkTokens + zoneTokens + i, sinkTokens + ((zoneTokens + i) % ringTokens));
      }
    }
  }
  return window;
}
