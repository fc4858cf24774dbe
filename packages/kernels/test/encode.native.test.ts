import { CENTROIDS, encodePage, noCalibration, PAGE_TOKENS, summaryLayout } from "@pariskv/quantizer";
import { expect, it } from "vitest";
import { describeDevices } from "./support/devices.js";
import { expectSameBits } from "./support/expect-step.js";
import { createPageScene, readSummaries } from "./support/page-scene.js";
import { Random } from "./support/random.js";
import { Scene } from "./support/scene.js";
import type { SceneOptions } from "./support/scene-data.js";

const CASES: Readonly<Record<string, Partial<SceneOptions>>> = {
  "head_dim 64, bf16": {},
  "head_dim 128, f32, two layers": { headDim: 128, kvDtype: "f32", layers: 2 },
  "head_dim 256, f16": { headDim: 256, kvDtype: "f16", kvHeads: 1 },
  calibrated: { keys: "llm", calibrated: true, kvDtype: "f32" },
  "keys of zero norm, not finite and tiny": { keys: "invalid" },
};

/** Keys that are hard on rounding and on comparisons, each repeated with random signs; `sign` is the rotation's of j. */
const HARD_KEYS: Readonly<Record<string, (random: Random, j: number, sign: number) => number>> = {
  denormal: (random) => (random.below(9) - 4) * 2 ** -149,
  "negative zeros around one value": (_, j) => (j === 17 ? 2.5 : -0),
  "all equal": () => 1,
  alternating: (_, j) => (j % 2 === 0 ? 1 : -1),
  "one hot": (_, j) => (j === 0 ? 3 : 0),
  "the largest bf16": () => 3.3895313892515355e38,
  "a norm whose square overflows": (random) => random.normal() * 1e19,
  "a norm whose square underflows": (random) => random.normal() * 1e-23,
  // Coordinates 0 and 8 cancel in every second subspace, and nothing is left there but coordinate 16.
  "subspaces whose norm underflows": (_, j, sign) =>
    sign *
    (new Map([
      [0, 1],
      [8, 1],
      [16, 1e-25],
    ]).get(j) ?? 0),
  "one channel a thousand times larger": (random, j) => random.normal() * (j === 5 ? 1000 : 1),
  "weights beyond the largest": (random) => random.normal() * 1e6,
};

describeDevices("encode", (device) => {
  for (const [name, options] of Object.entries(CASES)) {
    it(`writes the quantiser's bytes from wherever the page lies in the ring: ${name} (seed 61)`, () => {
      using context = device.open();
      for (const turned of [0, 1]) {
        const { scene, after } = createPageScene(context, turned, options);
        for (const slot of [0, 1]) {
          const pageId = scene.pageId(slot, turned);
          const neighbour = readSummaries(scene, scene.pageId(slot, turned + 1));
          context.encode({ cache: scene.cache, slot, pageIndex: turned, pageId });
          expectSameBits("summaries", readSummaries(scene, pageId), after.summaries[slot]![turned]!);
          expectSameBits("the page beside", readSummaries(scene, scene.pageId(slot, turned + 1)), neighbour);
        }
      }
    });
  }

  it("agrees to the bit on keys that are hard to round (seed 62)", () => {
    using context = device.open();
    for (const headDim of [64, 128, 256]) {
      const scene = new Scene(context, {
        sequences: [{ zoneTokens: 0, ringUsed: 0 }],
        kvHeads: 1,
        headDim,
        kvDtype: "f32",
        sinkTokens: 0,
        ringTokens: PAGE_TOKENS,
      });
      const { quantizer } = scene.data;
      const random = new Random(62);
      const kinds = Object.values(HARD_KEYS);
      const records = new Float32Array(PAGE_TOKENS * 2 * headDim);
      for (let token = 0; token < PAGE_TOKENS; token++) {
        for (let j = 0; j < headDim; j++) {
          const value = kinds[token % kinds.length]!(random, j, quantizer.signs[j]!);
          records[token * 2 * headDim + j] = random.below(2) === 0 && token % 3 === 0 ? -value : value;
        }
      }
      scene.window.write(0, records);
      context.encode({ cache: scene.cache, slot: 0, pageIndex: 0, pageId: 1 });
      const expected = new Uint8Array(summaryLayout(headDim).headPageBytes);
      const counts = new Uint32Array((headDim / 8) * CENTROIDS);
      encodePage(quantizer, noCalibration(headDim), records, 0, 2 * headDim, PAGE_TOKENS, expected, counts);
      expectSameBits(`summaries, head_dim ${headDim}`, readSummaries(scene, 1), expected);
    }
  });

  it("refuses a slot, a page number and a page id that do not exist, and a ring without a page in it", () => {
    using context = device.open();
    const { scene } = createPageScene(context, 0);
    const args = { cache: scene.cache, slot: 0, pageIndex: 0, pageId: 0 };
    expect(() => context.encode({ ...args, slot: 2 })).toThrow(
      "Expected slot to be an integer in 0..1 but received 2.",
    );
    expect(() => context.encode({ ...args, pageIndex: -1 })).toThrow("Expected pageIndex to be");
    expect(() => context.encode({ ...args, pageId: 1.5 })).toThrow("Expected pageId to be");
    const small = new Scene(context, { sequences: [{ zoneTokens: 0, ringUsed: 0 }] });
    expect(() => context.encode({ ...args, cache: small.cache })).toThrow("Expected ringTokens to be");
  });
});
