import { expect, it } from "vitest";
import { describeDevices } from "./support/devices.js";
import { keysOf, readStep } from "./support/expect-step.js";
import { bestKeys } from "./support/oracle.js";
import { Random } from "./support/random.js";
import { Scene } from "./support/scene.js";
import type { SceneOptions } from "./support/scene-data.js";

const NO_SCORE = 0xffff;
const MAX_SCORE = 63 * 32;
const KV_HEADS = 2;

/** Scores that a zone could have, drawn in several ways. */
const KINDS: Readonly<Record<string, (random: Random, key: number) => number>> = {
  "all different as far as possible": (random) => random.below(MAX_SCORE + 1),
  "few values": (random) => 100 + random.below(4),
  "all equal": () => 7,
  "all zero": () => 0,
  "all at the largest score": () => MAX_SCORE,
  ascending: (_, key) => key % (MAX_SCORE + 1),
  "one key in three invalid": (random, key) => (key % 3 === 0 ? NO_SCORE : random.below(50)),
  "all invalid": () => NO_SCORE,
};

function sceneOf(zones: readonly number[], more: Partial<SceneOptions> = {}): SceneOptions {
  return {
    sequences: zones.map((zoneTokens) => ({ zoneTokens, ringUsed: 1 })),
    kvHeads: KV_HEADS,
    queryGroup: 1,
    ...more,
  };
}

/** Writes scores into the workspace, selects, and compares with a sort. */
function expectSelection(scene: Scene, scores: Uint16Array, zones: readonly number[], count: number): void {
  const { maxZoneTokens } = scene.plan.params;
  const { buffer, offsetBytes = 0 } = scene.plan.field("scores");
  buffer.write(offsetBytes, scores);
  scene.context.select({ plan: scene.plan, layer: 0, step: scene.step() });
  const step = readStep(scene);
  for (let entry = 0; entry < zones.length * KV_HEADS; entry++) {
    const start = entry * maxZoneTokens;
    const own = scores.subarray(start, start + zones[Math.floor(entry / KV_HEADS)]!);
    expect(keysOf(scene, step, entry).candidates).toEqual(bestKeys(own, count));
  }
}

describeDevices("select", (device) => {
  const zones = [1300, 0, 1, 511, 512, 513];
  for (const [kind, draw] of Object.entries(KINDS)) {
    it(`keeps the highest scores, ties to the smaller index, ascending: scores ${kind} (seed 51)`, () => {
      using context = device.open();
      const random = new Random(51);
      const scene = new Scene(context, sceneOf(zones));
      const { maxZoneTokens } = scene.plan.params;
      for (const candidates of [0, 1, 2, 100, 1299, 1300, 2500]) {
        scene.setMode("vote", candidates);
        const scores = Uint16Array.from({ length: zones.length * KV_HEADS * maxZoneTokens }, (_, i) =>
          draw(random, i % maxZoneTokens),
        );
        expectSelection(scene, scores, zones, candidates);
      }
    });
  }

  it("lists every valid key in mode scan, whatever the scores are (seed 52)", () => {
    using context = device.open();
    const scene = new Scene(
      context,
      sceneOf([700, 0, 1, 512], { mode: "scan", keys: "invalid", candidates: 3, seed: 52 }),
    );
    context.select({ plan: scene.plan, layer: 0, step: scene.step() });
    const step = readStep(scene);
    const { sinkTokens, headDim, sequences } = scene.data.options;
    for (const [slot, { zoneTokens }] of sequences.entries()) {
      for (let head = 0; head < KV_HEADS; head++) {
        const valid = Array.from({ length: zoneTokens }, (_, key) => key).filter((key) => {
          const at = (head * (sinkTokens + zoneTokens + 1) + sinkTokens + key) * 2 * headDim;
          const values = scene.data.records[slot]!.subarray(at, at + headDim);
          return values.every(Number.isFinite) && values.some((value) => value !== 0);
        });
        expect(keysOf(scene, step, slot * KV_HEADS + head).candidates).toEqual(valid);
      }
    }
  });

  it("writes nothing for dense and for skipped rows", () => {
    using context = device.open();
    const scene = new Scene(context, sceneOf([300, 300], { mode: "dense", candidates: 5 }));
    const { buffer, offsetBytes = 0 } = scene.plan.field("candidateCount");
    buffer.write(offsetBytes, Int32Array.of(-7, -7, -7, -7));
    context.select({ plan: scene.plan, layer: 0, step: scene.step() });
    expect(readStep(scene).candidateCount).toEqual(Int32Array.of(-7, -7, -7, -7));
    scene.setMode("vote");
    context.select({ plan: scene.plan, layer: 0, step: scene.step([{ slot: -1, position: 0 }, scene.rows[1]!]) });
    expect(readStep(scene).candidateCount).toEqual(Int32Array.of(-7, -7, 5, 5));
  });

  it("never writes more candidates than the plan has room for", () => {
    using context = device.open();
    const scene = new Scene(context, sceneOf([300], { candidates: 290 }));
    const plan = context.createPlan({ ...scene.plan.params, maxCandidates: 10 });
    const scores = plan.field("scores");
    scores.buffer.write(scores.offsetBytes ?? 0, new Uint16Array(KV_HEADS * 300).fill(3));
    for (const mode of ["vote", "scan"] as const) {
      scene.setMode(mode);
      context.select({ plan, layer: 0, step: scene.step() });
      const count = plan.field("candidateCount");
      expect(scene.read(count.buffer, new Int32Array(KV_HEADS), count.offsetBytes)).toEqual(Int32Array.of(10, 10));
      const candidates = plan.field("candidates");
      const first = Uint32Array.of(0, 1, 2, 3, 4, 5, 6, 7, 8, 9);
      expect(scene.read(candidates.buffer, new Uint32Array(10), candidates.offsetBytes)).toEqual(first);
    }
  });
});
