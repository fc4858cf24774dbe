import { expect, it } from "vitest";
import { describeDevices } from "./support/devices.js";
import { expectStep } from "./support/expect-step.js";
import { Scene } from "./support/scene.js";
import type { SceneOptions } from "./support/scene-data.js";

const RAGGED = [
  { zoneTokens: 700, ringUsed: 33 },
  { zoneTokens: 0, ringUsed: 1 },
  { zoneTokens: 1, ringUsed: 70 },
  { zoneTokens: 513, ringUsed: 7 },
];
const CASES: Readonly<Record<string, SceneOptions>> = {
  "head_dim 64, one query head, graded, max": { sequences: RAGGED, queryGroup: 1, seed: 11 },
  "head_dim 128, groups of 4, graded, max": { sequences: RAGGED, headDim: 128, queryGroup: 4, layers: 2, seed: 12 },
  "head_dim 256, groups of 2, graded, mean, f32": {
    sequences: RAGGED,
    headDim: 256,
    group: "mean",
    kvDtype: "f32",
    seed: 13,
  },
  "groups of 8, graded, sum, f16": { sequences: RAGGED, queryGroup: 8, group: "sum", kvDtype: "f16", seed: 14 },
  "tiered, mean": { sequences: RAGGED, votes: "tiered", group: "mean", queryGroup: 4, seed: 15 },
  "tiered, max, head_dim 128": { sequences: RAGGED, votes: "tiered", headDim: 128, seed: 16 },
  "tiered, sum, f32": { sequences: RAGGED, votes: "tiered", group: "sum", kvDtype: "f32", seed: 17 },
  "keys with a common mean and outlier channels, calibrated": {
    sequences: RAGGED,
    keys: "llm",
    calibrated: true,
    seed: 18,
  },
  "calibrated, mean": { sequences: RAGGED, keys: "llm", calibrated: true, group: "mean", seed: 19 },
  "copies of five keys": { sequences: RAGGED, keys: "ties", seed: 20 },
  "keys of zero norm and not finite": { sequences: RAGGED, keys: "invalid", seed: 21 },
  "keys of zero norm and not finite, tiered, sum": {
    sequences: RAGGED,
    keys: "invalid",
    votes: "tiered",
    group: "sum",
    seed: 22,
  },
  "K larger than the zone": { sequences: RAGGED, topK: 800, candidates: 800, seed: 23 },
  "no candidates": { sequences: RAGGED, candidates: 0, seed: 24 },
  "mode scan": { sequences: RAGGED, mode: "scan", queryGroup: 4, seed: 25 },
  "mode scan, invalid keys, sum": { sequences: RAGGED, mode: "scan", keys: "invalid", group: "sum", seed: 26 },
  "mode dense": { sequences: RAGGED, mode: "dense", queryGroup: 4, headDim: 128, kvDtype: "f32", seed: 27 },
  "mode dense, invalid keys, f16": { sequences: RAGGED, mode: "dense", keys: "invalid", kvDtype: "f16", seed: 28 },
};

describeDevices("decode step", (device) => {
  for (const [name, options] of Object.entries(CASES)) {
    it(`agrees with the float64 oracle at every stage: ${name} (seed ${options.seed})`, () => {
      using context = device.open();
      const scene = new Scene(context, options);
      for (let layer = 0; layer < scene.data.options.layers; layer++) expectStep(scene, layer, scene.decode(layer));
      expect(scene.rows).toHaveLength(RAGGED.length);
    });
  }
});
