import {
  CENTROIDS,
  createQuantizer,
  encodePage,
  fromBfloat16,
  fromFloat16,
  PAGE_TOKENS,
  type Quantizer,
  summaryLayout,
  toBfloat16,
  toFloat16,
} from "@pariskv/quantizer";
import type { Dtype, Group, Votes } from "../../src/context.js";
import { Random } from "./random.js";

/**
 * How keys are drawn. `isotropic`: normal. `llm`: a common mean and a few outlier channels. `ties`: copies of five
 * vectors. `invalid`: isotropic with keys of zero norm, NaN and infinities among them, and valid ones so short that their
 * weights are zero.
 */
export type KeyKind = "isotropic" | "llm" | "ties" | "invalid";
export type ModeName = "dense" | "scan" | "vote";

/** One sequence: `zoneTokens` retrievable tokens, then `ringUsed` tokens in the ring; the last one is the present token. */
export interface SequenceOptions {
  readonly zoneTokens: number;
  readonly ringUsed: number;
}

export interface SceneOptions {
  readonly sequences: readonly SequenceOptions[];
  readonly seed?: number;
  readonly layers?: number;
  readonly kvHeads?: number;
  readonly queryGroup?: number;
  readonly headDim?: number;
  readonly kvDtype?: Dtype;
  readonly sinkTokens?: number;
  readonly ringTokens?: number;
  readonly keys?: KeyKind;
  readonly votes?: Votes;
  readonly group?: Group;
  readonly mode?: ModeName;
  /** Candidates of a KV head. Default: a fifth of the zone. */
  readonly candidates?: number;
  readonly topK?: number;
  /** Centre and balance keys with random vectors, or not at all. */
  readonly calibrated?: boolean;
}

/** Everything that a scene holds, in host memory: made once, placed on any context. */
export interface SceneData {
  readonly options: Required<Omit<SceneOptions, "candidates">> & { readonly candidates: number | undefined };
  readonly quantizer: Quantizer;
  /** For each slot `[layers, kvHeads, positions, 2, headDim] f32`; every value is one that kvDtype holds exactly. */
  readonly records: readonly Float32Array[];
  /** `[layers, slots, queryHeads, headDim] f32`. */
  readonly queries: Float32Array;
  /** `[layers, kvHeads, 2, headDim] f32`: mu, D. */
  readonly calibration: Float32Array;
  /** For each slot and page `[layers, kvHeads, headPageBytes] u8`. */
  readonly summaries: readonly (readonly Uint8Array[])[];
  /** `[slots, layers, kvHeads, subspaces, 256] u32`. */
  readonly idCounts: Uint32Array;
  /** `[slots, layers, kvHeads] u32`. */
  readonly invalidKeys: Uint32Array;
}

/** Rounds one value to what the dtype holds. */
export function roundTo(dtype: Dtype, value: number): number {
  if (dtype === "bf16") return fromBfloat16(toBfloat16(value));
  return dtype === "f16" ? fromFloat16(toFloat16(value)) : Math.fround(value);
}

/** Tokens of a sequence. */
export function sequenceTokens(data: SceneData, slot: number): number {
  const { zoneTokens, ringUsed } = data.options.sequences[slot]!;
  return data.options.sinkTokens + zoneTokens + ringUsed;
}

/** Where the record of a token begins in `data.records[slot]`, in elements. */
export function recordIndex(data: SceneData, slot: number, layer: number, head: number, position: number): number {
  const { kvHeads, headDim } = data.options;
  return ((layer * kvHeads + head) * sequenceTokens(data, slot) + position) * 2 * headDim;
}

type Drawn = Omit<SceneData, "options">;
/** What has been drawn in this file, by the options that matter to it: many tests and all devices share a scene. */
const drawnScenes = new Map<string, Drawn>();

/** Draws a scene. The same options give the same data, which nobody may change. */
export function createSceneData(given: SceneOptions): SceneData {
  const options = {
    seed: 1,
    layers: 1,
    kvHeads: 2,
    queryGroup: 2,
    headDim: 64,
    kvDtype: "bf16" as Dtype,
    sinkTokens: 5,
    ringTokens: 70,
    keys: "isotropic" as KeyKind,
    votes: "graded" as Votes,
    group: "max" as Group,
    mode: "vote" as ModeName,
    topK: 20,
    calibrated: false,
    candidates: undefined,
    ...given,
  };
  // Policies decide what is done with the data, not what it is.
  const { votes, group, mode, topK, candidates, ringTokens, ...drawing } = options;
  const key = JSON.stringify(drawing);
  let drawn = drawnScenes.get(key);
  if (drawn === undefined) {
    drawn = draw(options);
    drawnScenes.set(key, drawn);
  }
  return { options, ...drawn };
}

function draw(options: SceneData["options"]): Drawn {
  const { layers, kvHeads, headDim, sequences } = options;
  const random = new Random(options.seed);
  const quantizer = createQuantizer({ headDim });
  const calibration = new Float32Array(layers * kvHeads * 2 * headDim);
  for (let i = 0; i < calibration.length; i++) {
    const isBalance = Math.floor(i / headDim) % 2 === 1;
    if (isBalance) calibration[i] = options.calibrated ? 0.5 + 1.5 * random.uniform() : 1;
    else if (options.calibrated) calibration[i] = random.normal();
  }
  const data = {
    options,
    quantizer,
    calibration,
    records: sequences.map(({ zoneTokens, ringUsed }) => {
      const tokens = options.sinkTokens + zoneTokens + ringUsed;
      const records = new Float32Array(layers * kvHeads * tokens * 2 * headDim);
      for (let head = 0; head < layers * kvHeads; head++) {
        const start = head * tokens * 2 * headDim;
        drawRecords(random, options, records.subarray(start, start + tokens * 2 * headDim));
      }
      return records;
    }),
    queries: new Float32Array(layers * sequences.length * kvHeads * options.queryGroup * headDim),
    summaries: sequences.map(({ zoneTokens }) =>
      Array.from(
        { length: Math.ceil(zoneTokens / PAGE_TOKENS) },
        () => new Uint8Array(layers * kvHeads * summaryLayout(headDim).headPageBytes),
      ),
    ),
    idCounts: new Uint32Array(sequences.length * layers * kvHeads * quantizer.subspaces * CENTROIDS),
    invalidKeys: new Uint32Array(sequences.length * layers * kvHeads),
  };
  drawQueries(random, data);
  summarize(data);
  const { options: _, ...drawn } = data;
  return drawn;
}

/** Fills `records`, `[tokens, 2, headDim]`, of one layer and KV head. */
function drawRecords(random: Random, { keys, headDim, kvDtype }: SceneData["options"], records: Float32Array): void {
  const mean = random.normals(headDim);
  const spread = new Float32Array(headDim).fill(1);
  for (let i = 0; i < 4; i++) spread[random.below(headDim)] = 6;
  const copies = random.normals(5 * headDim);
  const tokens = records.length / (2 * headDim);
  for (let token = 0; token < tokens; token++) {
    const copy = random.below(5) * headDim;
    for (let j = 0; j < headDim; j++) {
      let key = random.normal();
      if (keys === "llm") key = 2 * mean[j]! + spread[j]! * key;
      if (keys === "ties") key = copies[copy + j]!;
      if (keys === "invalid" && token % 7 === 3) key = 0;
      if (keys === "invalid" && token % 17 === 5) key *= 1e-8;
      records[token * 2 * headDim + j] = roundTo(kvDtype, key);
      records[(token * 2 + 1) * headDim + j] = roundTo(kvDtype, random.normal());
    }
    if (keys === "invalid" && token % 11 === 4) records[token * 2 * headDim + 1] = Number.NaN;
    if (keys === "invalid" && token % 13 === 6) records[token * 2 * headDim + 2] = Number.NEGATIVE_INFINITY;
  }
}

/** Queries that lean towards one key of their sequence each, so that attention has something to find. */
function drawQueries(random: Random, data: SceneData): void {
  const { layers, sequences, kvHeads, queryGroup, headDim } = data.options;
  let at = 0;
  for (let layer = 0; layer < layers; layer++) {
    for (let slot = 0; slot < sequences.length; slot++) {
      for (let queryHead = 0; queryHead < kvHeads * queryGroup; queryHead++) {
        const head = Math.floor(queryHead / queryGroup);
        const key = recordIndex(data, slot, layer, head, random.below(sequenceTokens(data, slot)));
        for (let j = 0; j < headDim; j++, at++) {
          const lean = data.records[slot]![key + j]!;
          data.queries[at] = random.normal() + (Number.isFinite(lean) ? 0.5 * lean : 0);
        }
      }
    }
  }
}

/** Encodes the retrieval zones as a memory manager would have, page by page. */
function summarize(data: SceneData): void {
  const { layers, kvHeads, headDim, sinkTokens, sequences } = data.options;
  const { headPageBytes } = summaryLayout(headDim);
  const countsLength = data.quantizer.subspaces * CENTROIDS;
  for (const [slot, { zoneTokens }] of sequences.entries()) {
    for (let layer = 0; layer < layers; layer++) {
      for (let head = 0; head < kvHeads; head++) {
        const layerHead = layer * kvHeads + head;
        const entry = slot * layers * kvHeads + layerHead;
        const counts = data.idCounts.subarray(entry * countsLength, (entry + 1) * countsLength);
        const calibrationAt = layerHead * 2 * headDim;
        const calibration = {
          mode: "balance" as const,
          center: data.calibration.subarray(calibrationAt, calibrationAt + headDim),
          balance: data.calibration.subarray(calibrationAt + headDim, calibrationAt + 2 * headDim),
        };
        for (let first = 0; first < zoneTokens; first += PAGE_TOKENS) {
          const page = data.summaries[slot]![first / PAGE_TOKENS]!;
          data.invalidKeys[entry]! += encodePage(
            data.quantizer,
            calibration,
            data.records[slot]!,
            recordIndex(data, slot, layer, head, sinkTokens + first),
            2 * headDim,
            Math.min(PAGE_TOKENS, zoneTokens - first),
            page.subarray(layerHead * headPageBytes, (layerHead + 1) * headPageBytes),
            counts,
          );
        }
      }
    }
  }
}
