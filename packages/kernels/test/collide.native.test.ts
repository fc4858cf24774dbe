import { collide, NO_SCORE, PAGE_TOKENS } from "@pariskv/quantizer";
import { expect, it } from "vitest";
import { describeDevices } from "./support/devices.js";
import { expectSameBits, readStep, rowOf } from "./support/expect-step.js";
import { ZoneBytes } from "./support/oracle.js";
import { Random } from "./support/random.js";
import { Scene } from "./support/scene.js";
import type { SceneOptions } from "./support/scene-data.js";

const KV_HEADS = 2;
const MAX_VOTE = 63;
/** A score that no stage writes: whoever touches a place that is not his own will be found out. */
const UNTOUCHED = 0x1234;

function sceneOf(zones: readonly number[], more: Partial<SceneOptions> = {}): SceneOptions {
  return { sequences: zones.map((zoneTokens) => ({ zoneTokens, ringUsed: 1 })), kvHeads: KV_HEADS, ...more };
}

function write(scene: Scene, name: "tables" | "scores", values: ArrayBufferView): void {
  const { buffer, offsetBytes = 0 } = scene.plan.field(name);
  buffer.write(offsetBytes, values);
}

/** Vote tables of every (row, KV head), `[rows, kvHeads, tables, subspaces, 256] u8`. */
function drawTables(scene: Scene, vote: () => number): Uint8Array {
  const { queryGroup, headDim, group } = scene.data.options;
  const tableCount = group === "max" ? queryGroup : 1;
  return Uint8Array.from({ length: scene.plan.params.maxRows * KV_HEADS * tableCount * headDim * 32 }, vote);
}

/** What the quantiser makes of the pages of one (slot, KV head). */
function expectedScores(scene: Scene, slot: number, head: number, tables: Uint8Array): Uint16Array {
  const { queryGroup, headDim, group, sequences } = scene.data.options;
  const { zoneTokens } = sequences[slot]!;
  const tableCount = group === "max" ? queryGroup : 1;
  const own = rowOf(tables, slot * KV_HEADS + head, tableCount * headDim * 32);
  const scores = new Uint16Array(zoneTokens);
  for (let first = 0; first < zoneTokens; first += PAGE_TOKENS) {
    const headBytes = 0.75 * headDim * PAGE_TOKENS;
    const ids = rowOf(scene.data.summaries[slot]![first / PAGE_TOKENS]!, head, headBytes);
    const tokens = Math.min(PAGE_TOKENS, zoneTokens - first);
    collide(ids, own, tableCount, headDim / 8, tokens, PAGE_TOKENS, scores, first);
  }
  return scores;
}

function expectScores(scene: Scene, tables: Uint8Array): void {
  const { maxRows, maxZoneTokens } = scene.plan.params;
  write(scene, "tables", tables);
  write(scene, "scores", new Uint16Array(maxRows * KV_HEADS * maxZoneTokens).fill(UNTOUCHED));
  scene.context.collide({ plan: scene.plan, layer: 0, step: scene.step() });
  const { scores } = readStep(scene);
  for (const [slot, { zoneTokens }] of scene.data.options.sequences.entries()) {
    for (let head = 0; head < KV_HEADS; head++) {
      const own = rowOf(scores, slot * KV_HEADS + head, maxZoneTokens);
      expectSameBits("scores", own.subarray(0, zoneTokens), expectedScores(scene, slot, head, tables));
      expect(own.subarray(zoneTokens).every((score) => score === UNTOUCHED)).toBe(true);
    }
  }
}

describeDevices("collide", (device) => {
  const shapes = [
    { headDim: 64, queryGroup: 1 },
    { headDim: 64, queryGroup: 8 },
    { headDim: 128, queryGroup: 4 },
    { headDim: 256, queryGroup: 2 },
  ];
  for (const shape of shapes) {
    const name = `head_dim ${shape.headDim}, ${shape.queryGroup} tables`;
    it(`gives the quantiser's scores to the bit: ${name} (seed 61)`, () => {
      using context = device.open();
      const scene = new Scene(context, sceneOf([0, 1, 31, 64, 511, 512, 513, 1300], { seed: 61, ...shape }));
      const random = new Random(61);
      expectScores(
        scene,
        drawTables(scene, () => random.below(MAX_VOTE + 1)),
      );
    });
  }

  it("gives the quantiser's scores over several tasks of pages (seed 62)", () => {
    using context = device.open();
    const scene = new Scene(context, sceneOf([5000, 4096, 4097], { group: "sum", seed: 62 }));
    const random = new Random(62);
    expectScores(
      scene,
      drawTables(scene, () => random.below(MAX_VOTE + 1)),
    );
  });

  it("holds the largest scores, 63 votes in each of 32 subspaces", () => {
    using context = device.open();
    const scene = new Scene(context, sceneOf([600], { headDim: 256, queryGroup: 1 }));
    expectScores(
      scene,
      drawTables(scene, () => MAX_VOTE),
    );
    expect(readStep(scene).scores[599]).toBe(2016);
  });

  it("tells all 256 ids of a subspace apart", () => {
    using context = device.open();
    const scene = new Scene(context, sceneOf([1300], { queryGroup: 1, seed: 63 }));
    const zone = new ZoneBytes(scene.data, 0, 0, 0);
    const met = new Set<number>();
    for (let subspace = 0; subspace < 8; subspace++) {
      for (let quarter = 0; quarter < 4; quarter++) {
        // One vote for each id of one subspace whose place in its quarter has one bit: every id has its own pattern.
        const tables = new Uint8Array(KV_HEADS * 64 * 32);
        for (let id = 0; id < 256; id++) tables[subspace * 256 + id] = id >> 6 === quarter ? id & 63 : 0;
        expectScores(scene, tables);
      }
      for (let key = 0; key < 1300; key++) met.add(zone.id(key, subspace));
    }
    expect(met.size).toBe(256);
  });

  it("keeps invalid keys out, where the cache counts some (seed 64)", () => {
    using context = device.open();
    const scene = new Scene(context, sceneOf([700, 513], { keys: "invalid", seed: 64 }));
    const random = new Random(64);
    const { maxZoneTokens } = scene.plan.params;
    write(
      scene,
      "tables",
      drawTables(scene, () => random.below(MAX_VOTE + 1)),
    );
    scene.context.collide({ plan: scene.plan, layer: 0, step: scene.step() });
    const withCounts = readStep(scene).scores;
    scene.invalidKeys.write(0, new Uint32Array(2 * KV_HEADS));
    scene.context.collide({ plan: scene.plan, layer: 0, step: scene.step() });
    const without = readStep(scene).scores;
    let invalid = 0;
    for (const [slot, { zoneTokens }] of scene.data.options.sequences.entries()) {
      for (let head = 0; head < KV_HEADS; head++) {
        const zone = new ZoneBytes(scene.data, slot, 0, head);
        const start = (slot * KV_HEADS + head) * maxZoneTokens;
        for (let key = 0; key < zoneTokens; key++) {
          const valid = zone.isValid(key);
          if (!valid) invalid++;
          expect(withCounts[start + key]).toBe(valid ? without[start + key] : NO_SCORE);
          expect(without[start + key]).not.toBe(NO_SCORE);
        }
      }
    }
    expect(invalid).toBeGreaterThan(10);
  });

  it("writes nothing for rows that are skipped or not in mode vote", () => {
    using context = device.open();
    const scene = new Scene(context, sceneOf([100, 100]));
    const mark = new Uint16Array(2 * KV_HEADS * 100).fill(UNTOUCHED);
    for (const mode of ["dense", "scan"] as const) {
      scene.setMode(mode);
      write(scene, "scores", mark);
      context.collide({ plan: scene.plan, layer: 0, step: scene.step() });
      expect(readStep(scene).scores).toEqual(mark);
    }
    scene.setMode("vote");
    context.collide({ plan: scene.plan, layer: 0, step: scene.step([{ slot: -1, position: 0 }, scene.rows[1]!]) });
    const { scores } = readStep(scene);
    expect(scores.subarray(0, 200)).toEqual(mark.subarray(0, 200));
    expect(scores.subarray(200).includes(UNTOUCHED)).toBe(false);
  });

  it("never writes more scores than the plan has room for", () => {
    using context = device.open();
    const scene = new Scene(context, sceneOf([600], { seed: 65 }), { maxZoneTokens: 300 });
    const random = new Random(65);
    const tables = drawTables(scene, () => random.below(MAX_VOTE + 1));
    write(scene, "tables", tables);
    context.collide({ plan: scene.plan, layer: 0, step: scene.step() });
    const { scores } = readStep(scene);
    for (let head = 0; head < KV_HEADS; head++) {
      const expected = expectedScores(scene, 0, head, tables).subarray(0, 300);
      expectSameBits("scores", rowOf(scores, head, 300), expected);
    }
  });
});
