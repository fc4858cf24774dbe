import { expect } from "vitest";
import {
  attentionOver,
  bestKeys,
  calibrationOf,
  collisionScore,
  estimateOf,
  gradedVotes,
  logSumExpOf,
  othersLogSum,
  prioritiesOf,
  rotatedQueries,
  tieredVotes,
  ZoneBytes,
} from "./oracle.js";
import type { RowPlace, Scene } from "./scene.js";

/** What a step left in the workspaces of a plan, whole. */
export interface StepReading {
  readonly rotated: Float32Array;
  readonly tables: Uint8Array;
  readonly scores: Uint16Array;
  readonly candidates: Uint32Array;
  readonly candidateCount: Int32Array;
  readonly estimates: Float32Array;
  readonly priorities: Float32Array;
  readonly selected: Uint32Array;
  readonly selectedCount: Int32Array;
  readonly stats: Float32Array;
}

/** Reads every workspace of a scene's plan as `layer` left it. */
export function readStep(scene: Scene, layer = 0): StepReading {
  const { layers, kvHeads, queryGroup, headDim, group } = scene.data.options;
  const { maxRows, maxZoneTokens, maxCandidates, maxTopK } = scene.plan.params;
  const heads = maxRows * kvHeads;
  const queries = group === "mean" ? 1 : queryGroup;
  const tables = group === "max" ? queryGroup : 1;
  const ofLayer = <T extends { length: number; subarray(begin: number, end: number): T }>(all: T) =>
    rowOf(all, layer, all.length / layers);
  return {
    rotated: scene.readField("rotated", new Float32Array(heads * queries * headDim)),
    tables: scene.readField("tables", new Uint8Array(heads * tables * headDim * 32)),
    scores: scene.readField("scores", new Uint16Array(heads * maxZoneTokens)),
    candidates: scene.readField("candidates", new Uint32Array(heads * maxCandidates)),
    candidateCount: ofLayer(scene.readField("candidateCount", new Int32Array(layers * heads))),
    estimates: scene.readField("estimates", new Float32Array(heads * queries * maxCandidates)),
    priorities: scene.readField("priorities", new Float32Array(heads * maxCandidates)),
    selected: scene.readField("selected", new Uint32Array(heads * maxTopK)),
    selectedCount: ofLayer(scene.readField("selectedCount", new Int32Array(layers * heads))),
    stats: ofLayer(scene.readField("stats", new Float32Array(layers * heads * queryGroup * 3))),
  };
}

/** Row `row` of a flat array of `count` rows of `length` elements. */
export function rowOf<T extends { subarray(begin: number, end: number): T }>(flat: T, row: number, length: number): T {
  return flat.subarray(row * length, (row + 1) * length);
}

/** Candidates, selected keys of one (row, KV head), ascending. */
export function keysOf(scene: Scene, step: StepReading, entry: number): { candidates: number[]; selected: number[] } {
  const { maxCandidates, maxTopK } = scene.plan.params;
  const candidates = rowOf(step.candidates, entry, maxCandidates).subarray(0, step.candidateCount[entry]);
  const selected = rowOf(step.selected, entry, maxTopK).subarray(0, step.selectedCount[entry]);
  return { candidates: Array.from(candidates), selected: Array.from(selected) };
}

/** Fails unless two arrays hold the same bits; much faster than a comparison by elements. */
export function expectSameBits(what: string, actual: ArrayBufferView, expected: ArrayBufferView): void {
  const bytes = (view: ArrayBufferView) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const [a, b] = [bytes(actual), bytes(expected)];
  if (Buffer.compare(a, b) === 0) return;
  const at = a.length === b.length ? a.findIndex((byte, i) => byte !== b[i]) : Math.min(a.length, b.length);
  expect.fail(`${what}: byte ${at} of ${a.length} is ${a[at]}, expected ${b[at]} of ${b.length}`);
}

/** Fails unless every element of `actual` is within `tolerance` of `expected`; infinities must be equal. */
export function expectClose(
  what: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number | ArrayLike<number>,
): void {
  expect(actual.length, `${what}: length`).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) {
    const allowed = typeof tolerance === "number" ? tolerance : tolerance[i]!;
    const same = actual[i] === expected[i] || Math.abs(actual[i]! - expected[i]!) <= allowed;
    if (!same) expect.fail(`${what}[${i}]: ${actual[i]} is not within ${allowed} of ${expected[i]}`);
  }
}

/** Attention of f32 records must agree to 1e-5, of 16-bit records to 2e-3 (section 7 of the algorithm), for values of about 1. */
export function attentionTolerance(scene: Scene): number {
  return scene.data.options.kvDtype === "f32" ? 1e-5 : 2e-3;
}

/** Checks every stage of one layer of a decode step against the float64 oracle, each on the output of the one before. */
export function expectStep(
  scene: Scene,
  layer: number,
  out: Float32Array,
  mode: "dense" | "scan" | "vote" = scene.data.options.mode,
  rows: readonly RowPlace[] = scene.rows,
): void {
  const step = readStep(scene, layer);
  const { kvHeads } = scene.data.options;
  for (const [row, place] of rows.entries()) {
    for (let head = 0; head < kvHeads; head++) {
      if (mode !== "dense") expectRetrieval(scene, step, layer, row, place, head, mode);
      expectAttention(scene, step, layer, row, place, head, mode === "dense", out);
    }
  }
}

function expectRetrieval(
  scene: Scene,
  step: StepReading,
  layer: number,
  row: number,
  { slot }: RowPlace,
  head: number,
  mode: "scan" | "vote",
): void {
  const { data } = scene;
  const { kvHeads, queryGroup, headDim, group, votes, topK, sequences } = data.options;
  const { maxZoneTokens, maxCandidates } = scene.plan.params;
  const { zoneTokens } = sequences[slot]!;
  const entry = row * kvHeads + head;
  const at = `layer ${layer}, row ${row}, head ${head}`;
  const own = scene.queryValues(layer, slot).subarray(head * queryGroup * headDim, (head + 1) * queryGroup * headDim);

  const exact = rotatedQueries(data, layer, head, own);
  const rotated = exact.map((_, query) => rowOf(step.rotated, entry * exact.length + query, headDim));
  for (const [query, values] of rotated.entries()) {
    // log2(d) rounded additions: a few units of 2^-24 of the largest intermediate, which the norm bounds.
    expectClose(`${at}: rotated`, values, exact[query]!, 2e-6 * Math.hypot(...exact[query]!));
  }
  const zone = new ZoneBytes(data, slot, layer, head);
  const { candidates, selected } = keysOf(scene, step, entry);
  if (mode === "scan") {
    const valid = Array.from({ length: zoneTokens }, (_, key) => key).filter((key) => zone.isValid(key));
    expect(candidates, `${at}: candidates`).toEqual(valid);
  } else {
    const fromDevice = rotated.map((values) => Float64Array.from(values));
    const tableCount = group === "max" ? queryGroup : 1;
    const tables = Array.from({ length: tableCount }, (_, t) =>
      rowOf(step.tables, entry * tableCount + t, headDim * 32),
    );
    if (votes === "graded") {
      // Half a vote of rounding, and the rounding of the products before it.
      for (const [t, real] of gradedVotes(fromDevice, group).entries()) {
        expectClose(`${at}: votes`, tables[t]!, real, 0.501);
      }
    } else {
      const countsAt = ((slot * data.options.layers + layer) * kvHeads + head) * headDim * 32;
      const counts = data.idCounts.subarray(countsAt, countsAt + headDim * 32);
      const limits = [5, 15, 30, 50, 75, 100].map((percent) => Math.ceil((zoneTokens * percent) / 400));
      for (const [t, { votes: expected, margin }] of tieredVotes(fromDevice, group, counts, limits).entries()) {
        // Neighbours nearer than f32 rounding may change places.
        expectClose(
          `${at}: votes`,
          tables[t]!,
          expected,
          margin.map((gap) => (gap < 1e-4 ? 6 : 0)),
        );
      }
    }
    const scores = rowOf(step.scores, entry, maxZoneTokens).subarray(0, zoneTokens);
    const expected = Uint16Array.from({ length: zoneTokens }, (_, key) => collisionScore(zone, key, tables));
    expectSameBits(`${at}: scores`, scores, expected);
    const wanted = data.options.candidates ?? Math.ceil(zoneTokens / 5);
    expect(candidates, `${at}: candidates`).toEqual(bestKeys(scores, wanted));
  }

  const estimates = rotated.map((values, query) => {
    const actual = rowOf(step.estimates, entry * rotated.length + query, maxCandidates).subarray(0, candidates.length);
    const terms = candidates.map((key) =>
      estimateOf(zone, key, Float64Array.from(values), data.quantizer.levels.centersFloat32),
    );
    const tolerance = terms.map(({ magnitude }) => 1e-5 * magnitude);
    expectClose(
      `${at}: estimates`,
      actual,
      terms.map(({ value }) => value),
      tolerance,
    );
    return Array.from(actual);
  });
  const scale = 1 / Math.sqrt(headDim);
  const priorities = rowOf(step.priorities, entry, maxCandidates).subarray(0, candidates.length);
  const expected = prioritiesOf(group, estimates, scale);
  expectClose(
    `${at}: priorities`,
    priorities,
    expected,
    expected.map((value) => 1e-5 * (0.1 + Math.abs(value))),
  );
  const best = bestKeys(priorities, Math.min(topK, scene.plan.params.maxTopK)).map((i) => candidates[i]!);
  expect(selected, `${at}: selected`).toEqual(best);
  if (mode === "vote")
    expectLeftOut(scene, step, layer, entry, head, { own, zoneTokens, candidates, selected, estimates });
}

function expectLeftOut(
  scene: Scene,
  step: StepReading,
  layer: number,
  entry: number,
  head: number,
  found: {
    readonly own: Float32Array;
    readonly zoneTokens: number;
    readonly candidates: readonly number[];
    readonly selected: readonly number[];
    readonly estimates: readonly number[][];
  },
): void {
  const { queryGroup, headDim, group } = scene.data.options;
  const { own, candidates, selected } = found;
  const scores = rowOf(step.scores, entry, scene.plan.params.maxZoneTokens).subarray(0, found.zoneTokens);
  const { mu } = calibrationOf(scene.data, layer, head);
  const shifts = Array.from({ length: queryGroup }, (_, query) => {
    return mu.reduce((sum, value, j) => sum + value * own[query * headDim + j]!, 0) / Math.sqrt(headDim);
  });
  const meanShift = shifts.reduce((sum, shift) => sum + shift, 0) / queryGroup;
  for (let query = 0; query < queryGroup; query++) {
    const estimates = found.estimates[group === "mean" ? 0 : query]!;
    const shift = group === "mean" ? meanShift : shifts[query]!;
    const logits = estimates.map((estimate) => estimate / Math.sqrt(headDim) + shift);
    const unselected = logSumExpOf(logits.filter((_, i) => !selected.includes(candidates[i]!)));
    const others = candidates.length === 0 ? undefined : othersLogSum(scores, candidates, logits);
    const [, actualUnselected, actualOthers] = rowOf(step.stats, entry * queryGroup + query, 3);
    expectClose("mass of unselected candidates", [actualUnselected!], [unselected], 1e-3);
    if (others !== undefined) expectClose("mass of the others", [actualOthers!], [others], 1e-3);
  }
}

function expectAttention(
  scene: Scene,
  step: StepReading,
  layer: number,
  row: number,
  { slot, position }: RowPlace,
  head: number,
  dense: boolean,
  out: Float32Array,
): void {
  const { kvHeads, queryGroup, headDim, sinkTokens, sequences } = scene.data.options;
  const { zoneTokens } = sequences[slot]!;
  const entry = row * kvHeads + head;
  const { selected } = keysOf(scene, step, entry);
  const isSelected = new Set(selected.map((key) => sinkTokens + key));
  const visible = Array.from({ length: position + 1 }, (_, i) => i).filter(
    (i) => dense || i < sinkTokens || i >= sinkTokens + zoneTokens || isSelected.has(i),
  );
  for (let query = 0; query < queryGroup; query++) {
    const queryHead = head * queryGroup + query;
    const at = `layer ${layer}, row ${row}, query head ${queryHead}`;
    const q = rowOf(scene.queryValues(layer, slot), queryHead, headDim);
    const { output, logSum } = attentionOver(scene.data, { slot, layer, head }, q, visible);
    const actual = rowOf(out, row * kvHeads * queryGroup + queryHead, headDim);
    expectClose(`${at}: output`, actual, output, attentionTolerance(scene));
    const [attended] = rowOf(step.stats, entry * queryGroup + query, 3);
    expectClose(`${at}: attended mass`, [attended!], [logSum], 1e-4);
  }
}
