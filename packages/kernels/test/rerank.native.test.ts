import { estimate, keepTop, prioritize } from "@pariskv/quantizer";
import { expect, it } from "vitest";
import type { PlanField } from "../src/context.js";
import { STATS, STATS_FIELDS } from "../src/layout.js";
import { describeDevices } from "./support/devices.js";
import { expectClose, expectSameBits, keysOf, readStep, rowOf, type StepReading } from "./support/expect-step.js";
import { estimateOf, logSumExpOf, othersLogSum, ZoneBytes } from "./support/oracle.js";
import { Random } from "./support/random.js";
import { Scene } from "./support/scene.js";
import type { SceneOptions } from "./support/scene-data.js";

const KV_HEADS = 2;

function sceneOf(zones: readonly number[], more: Partial<SceneOptions> = {}): SceneOptions {
  return { sequences: zones.map((zoneTokens) => ({ zoneTokens, ringUsed: 1 })), kvHeads: KV_HEADS, ...more };
}

function write(scene: Scene, name: PlanField, values: ArrayBufferView): void {
  const { buffer, offsetBytes = 0 } = scene.plan.field(name);
  buffer.write(offsetBytes, values);
}

/** Writes the same candidates, rotated queries and scores that a plan would hold, then reranks. */
function rerankOf(
  scene: Scene,
  chosen: (row: number, head: number) => readonly number[],
  rotated: Float32Array,
  scores?: Uint16Array,
): StepReading {
  const { maxRows, maxCandidates } = scene.plan.params;
  const candidates = new Uint32Array(maxRows * KV_HEADS * maxCandidates);
  const counts = new Int32Array(maxRows * KV_HEADS);
  for (let entry = 0; entry < counts.length; entry++) {
    const keys = chosen(Math.floor(entry / KV_HEADS), entry % KV_HEADS);
    candidates.set(keys, entry * maxCandidates);
    counts[entry] = keys.length;
  }
  write(scene, "candidates", candidates);
  write(scene, "candidateCount", counts);
  write(scene, "rotated", rotated);
  if (scores !== undefined) write(scene, "scores", scores);
  scene.context.rerank({ plan: scene.plan, layer: 0, step: scene.step() });
  return readStep(scene);
}

function rotatedLength(scene: Scene): number {
  const { queryGroup, headDim, group } = scene.data.options;
  return scene.plan.params.maxRows * KV_HEADS * (group === "mean" ? 1 : queryGroup) * headDim;
}

/** Compares one (row, KV head) with the quantiser: estimates closely, and the choice by the device's own priorities. */
function expectRerank(scene: Scene, step: StepReading, slot: number, head: number, rotated: Float32Array): void {
  const { queryGroup, headDim, group, topK } = scene.data.options;
  const { maxCandidates } = scene.plan.params;
  const entry = slot * KV_HEADS + head;
  const queries = group === "mean" ? 1 : queryGroup;
  const { candidates, selected } = keysOf(scene, step, entry);
  const count = candidates.length;
  const headBytes = 0.75 * headDim * 512;
  const pages = scene.data.summaries[slot]!.map((page) => rowOf(page, head, headBytes));
  const own = rowOf(rotated, entry, queries * headDim);
  const keys = Uint32Array.from(candidates);
  const zone = new ZoneBytes(scene.data, slot, 0, head);
  const expected = new Float32Array(queries * count);
  estimate(scene.data.quantizer, pages, keys, count, own, queries, expected);
  const actual = new Float32Array(queries * count);
  for (let query = 0; query < queries; query++) {
    const values = rowOf(step.estimates, entry * queries + query, maxCandidates).subarray(0, count);
    actual.set(values, query * count);
    // Terms may cancel, so rounding is relative to the sum of their magnitudes.
    const centres = scene.data.quantizer.levels.centersFloat32;
    const from = Float64Array.from(rowOf(own, query, headDim));
    const tolerance = candidates.map((key) => 1e-6 * estimateOf(zone, key, from, centres).magnitude);
    expectClose("estimates", values, rowOf(expected, query, count), tolerance);
  }
  const logSums = new Float64Array(queries);
  const priorities = new Float64Array(count);
  prioritize(group, actual, queries, count, 1 / Math.sqrt(headDim), logSums, priorities);
  const written = rowOf(step.priorities, entry, maxCandidates).subarray(0, count);
  expectClose(
    "priorities",
    written,
    priorities,
    priorities.map((value) => 1e-5 * (0.1 + Math.abs(value))),
  );
  const best = new Uint32Array(Math.min(topK, count));
  keepTop(Float64Array.from(written), keys, count, topK, best);
  expect(selected).toEqual(Array.from(best));
}

describeDevices("rerank", (device) => {
  const shapes = [
    { headDim: 64, queryGroup: 1 },
    { headDim: 64, queryGroup: 8 },
    { headDim: 128, queryGroup: 3 },
    { headDim: 128, queryGroup: 4 },
    { headDim: 256, queryGroup: 2 },
  ];
  for (const group of ["mean", "max", "sum"] as const) {
    it(`estimates and chooses as the quantiser does: ${group} (seed 71)`, () => {
      using context = device.open();
      const random = new Random(71);
      const zones = [700, 0, 1, 16, 33, 513];
      for (const shape of shapes) {
        const scene = new Scene(context, sceneOf(zones, { group, topK: 30, seed: 71, ...shape }));
        const rotated = random.normals(rotatedLength(scene));
        const every = (row: number, head: number) =>
          Array.from({ length: zones[row]! }, (_, key) => key).filter((key) => (key + head) % 3 !== 1);
        const step = rerankOf(scene, every, rotated);
        for (const slot of zones.keys()) {
          for (let head = 0; head < KV_HEADS; head++) expectRerank(scene, step, slot, head, rotated);
        }
      }
    });
  }

  it("keeps the smaller index among equal priorities (seed 72)", () => {
    using context = device.open();
    const options = sceneOf([1100], { keys: "ties", group: "mean", topK: 100, seed: 72 });
    const scene = new Scene(context, options);
    const rotated = new Random(72).normals(rotatedLength(scene));
    const step = rerankOf(scene, () => Array.from({ length: 1100 }, (_, key) => key), rotated);
    for (let head = 0; head < KV_HEADS; head++) {
      const distinct = new Set(rowOf(step.priorities, head, 1100));
      expect(distinct.size).toBeLessThanOrEqual(5);
      expectRerank(scene, step, 0, head, rotated);
    }
  });

  for (const group of ["mean", "max", "sum"] as const) {
    it(`takes the first candidates when no priority says otherwise: ${group}`, () => {
      using context = device.open();
      const scene = new Scene(context, sceneOf([600], { group, topK: 7 }));
      const candidates = Array.from({ length: 300 }, (_, i) => 2 * i + 1);
      for (const value of [0, -0, Number.NaN, Number.POSITIVE_INFINITY]) {
        const rotated = new Float32Array(rotatedLength(scene)).fill(value);
        const step = rerankOf(scene, () => candidates, rotated);
        for (let head = 0; head < KV_HEADS; head++) {
          expect(keysOf(scene, step, head).selected).toEqual(candidates.slice(0, 7));
        }
      }
    });
  }

  it("gives a query head that is not finite no say (seed 73)", () => {
    using context = device.open();
    for (const group of ["max", "sum"] as const) {
      const scene = new Scene(context, sceneOf([600], { group, queryGroup: 2, topK: 20, seed: 73 }));
      const rotated = new Random(73).normals(rotatedLength(scene));
      for (let head = 0; head < KV_HEADS; head++) rotated.fill(Number.NaN, head * 128, head * 128 + 64);
      const step = rerankOf(scene, () => Array.from({ length: 600 }, (_, key) => key), rotated);
      for (let head = 0; head < KV_HEADS; head++) {
        const second = rowOf(step.estimates, head * 2 + 1, 600);
        const order = Array.from(second.keys()).sort((a, b) => second[b]! - second[a]! || a - b);
        const best = order.slice(0, 20).sort((a, b) => a - b);
        expect(keysOf(scene, step, head).selected).toEqual(best);
        expect(step.stats[head * 6 + 1]).toBe(Number.NEGATIVE_INFINITY);
        expect(Number.isFinite(step.stats[head * 6 + 4])).toBe(true);
      }
    }
  });

  it("keeps all candidates when K is larger, and none when K is 0 (seed 74)", () => {
    using context = device.open();
    const candidates = [3, 5, 8, 13, 21];
    for (const [topK, expected] of [
      [6, candidates],
      [5, candidates],
      [0, []],
    ] as const) {
      const scene = new Scene(context, sceneOf([30], { topK, seed: 74 }));
      const step = rerankOf(scene, () => candidates, new Random(74).normals(rotatedLength(scene)));
      for (let head = 0; head < KV_HEADS; head++) expect(keysOf(scene, step, head).selected).toEqual(expected);
    }
  });

  it("accounts for the mass of everything that is not selected (seed 75)", () => {
    using context = device.open();
    const zone = 3000;
    const random = new Random(75);
    const scores = Uint16Array.from({ length: KV_HEADS * zone }, (_, i) => (i % 50 === 0 ? 0xffff : random.below(400)));
    for (const group of ["mean", "max", "sum"] as const) {
      const scene = new Scene(context, sceneOf([zone], { group, topK: 50, seed: 75 }));
      // Larger queries than in life: the selected keys hold nearly all of the mass, and what is left keeps its digits.
      const rotated = random.normals(rotatedLength(scene)).map((value) => 4 * value);
      for (const count of [500, 51, 8, 7, 1]) {
        const valid = Array.from({ length: zone }, (_, key) => key).filter((key) => key % 50 !== 0);
        const candidates = valid.filter((_, i) => i % Math.floor(valid.length / count) === 0).slice(0, count);
        const step = rerankOf(scene, () => candidates, rotated, scores);
        for (let head = 0; head < KV_HEADS; head++) {
          const { selected } = keysOf(scene, step, head);
          for (let query = 0; query < 2; query++) {
            const estimates = rowOf(step.estimates, group === "mean" ? head : head * 2 + query, zone);
            const logits = Array.from(estimates.subarray(0, candidates.length), (value) => value / 8);
            const unselected = logSumExpOf(logits.filter((_, i) => !selected.includes(candidates[i]!)));
            const others = othersLogSum(rowOf(scores, head, zone), candidates, logits);
            expectClose("mass", rowOf(step.stats, head * 2 + query, 3).subarray(1), [unselected, others], 1e-4);
          }
        }
      }
    }
  });

  it("knows nothing of the other keys without candidates, and that there are none in mode scan", () => {
    using context = device.open();
    const scene = new Scene(context, sceneOf([40]));
    const rotated = new Random(76).normals(rotatedLength(scene));
    const scores = new Uint16Array(KV_HEADS * 40).fill(9);
    const vote = rerankOf(scene, () => [], rotated, scores).stats;
    expect([vote[1], vote[2]]).toEqual([Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]);
    scene.setMode("scan");
    const scan = rerankOf(scene, () => [1, 2, 3], rotated, scores).stats;
    expect([scan[1], scan[2]]).toEqual([Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]);
  });

  it("writes nothing for rows that are skipped or dense", () => {
    using context = device.open();
    const scene = new Scene(context, sceneOf([50, 50]));
    const rotated = new Random(77).normals(rotatedLength(scene));
    write(scene, "selectedCount", Int32Array.of(-7, -7, -7, -7));
    scene.setMode("dense");
    expect(rerankOf(scene, () => [1, 2], rotated).selectedCount).toEqual(Int32Array.of(-7, -7, -7, -7));
    scene.setMode("vote");
    context.rerank({ plan: scene.plan, layer: 0, step: scene.step([{ slot: -1, position: 0 }, scene.rows[1]!]) });
    expect(readStep(scene).selectedCount).toEqual(Int32Array.of(-7, -7, 2, 2));
  });

  it("leaves the mass open where the plan does not ask for it, and chooses the same keys (seed 79)", () => {
    using context = device.open();
    const [asked, unasked] = [true, false].map((estimateMass) => {
      const scene = new Scene(context, sceneOf([700], { topK: 9, seed: 79 }), { estimateMass });
      scene.decode();
      return readStep(scene);
    });
    expect(unasked!.selected).toEqual(asked!.selected);
    const fieldOf = (step: StepReading, field: number) =>
      Array.from(step.stats).filter((_, i) => i % STATS_FIELDS === field);
    expect(fieldOf(unasked!, STATS.LSE_ATTENDED)).toEqual(fieldOf(asked!, STATS.LSE_ATTENDED));
    for (const field of [STATS.LSE_UNSELECTED, STATS.LSE_OTHERS]) {
      expect(fieldOf(unasked!, field).every(Number.isNaN)).toBe(true);
      expect(fieldOf(asked!, field).some(Number.isNaN)).toBe(false);
    }
  });

  it("keeps the counts and statistics of every layer (seed 80)", () => {
    using context = device.open();
    const scene = new Scene(context, sceneOf([700], { layers: 2, topK: 9, seed: 80 }));
    scene.decode(0);
    const first = readStep(scene, 0);
    scene.decode(1);
    const after = readStep(scene, 0);
    const second = readStep(scene, 1);
    for (const name of ["candidateCount", "selectedCount", "stats"] as const) {
      expect(after[name], name).toEqual(first[name]);
    }
    expect(second.selectedCount).toEqual(first.selectedCount);
    expect(second.stats).not.toEqual(first.stats);
  });

  it("gives the same bits with one thread and with three (seed 78)", () => {
    const readings = [1, 3].map((threads) => {
      using context = device.open({ threads });
      const scene = new Scene(context, sceneOf([2600, 513], { group: "sum", queryGroup: 4, topK: 64, seed: 78 }));
      scene.decode();
      return readStep(scene);
    });
    for (const name of ["scores", "candidates", "estimates", "priorities", "selected", "stats"] as const) {
      expectSameBits(name, readings[1]![name], readings[0]![name]);
    }
  });
});
