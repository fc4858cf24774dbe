import type { Context } from "@pariskv/kernels";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeDevices } from "../../kernels/test/support/devices.js";
import type { Mode, RetrievalPolicy } from "../src/index.js";
import { Driver, largestDifference, SEALED, ZONES } from "./support/drive.js";
import { Oracle, type Rung, zoneTokensOf } from "./support/oracle.js";
import { TokenStream } from "./support/token-stream.js";

const SEED = 977;
const SHAPE = { layers: 4, queryHeads: 2, kvHeads: 1, headDim: 128 };
const stream = new TokenStream(SHAPE, "f32", SEALED[1] + 8, SEED);
const oracle = new Oracle(stream, ZONES, "graded", "max");
/** Dense, scan, auto with a crossover of two pages, and a K between one page and two. */
const POLICY: Partial<RetrievalPolicy> = {
  mode: "auto",
  topK: 32,
  candidateShare: 0.125,
  group: "max",
  crossoverTokens: 1024,
  layers: { 0: { mode: "dense" }, 1: { mode: "scan" }, 3: { mode: "vote", topK: 600 } },
};

function rungOf(layer: number, zone: number, wish: Mode | "policy"): Rung {
  const topK = layer === 3 ? 600 : 32;
  if (layer === 0 || zone <= topK) return { mode: "dense" };
  const own = ["dense", "scan", zone < 1024 ? "dense" : "vote", "vote"][layer] as Mode;
  const mode = wish === "policy" ? own : wish;
  if (mode === "dense") return { mode };
  return { mode, topK, candidates: mode === "scan" ? zone : Math.min(zone, Math.max(4 * topK, Math.ceil(zone / 8))) };
}

describeDevices(`the ladder (seed ${SEED})`, (device) => {
  let context: Context;
  let driver: Driver;
  beforeAll(() => {
    context = device.open();
    driver = new Driver({ shape: SHAPE, policy: POLICY, maxTokens: stream.tokens, maxSequences: 4 }, context);
  });
  afterAll(() => {
    driver?.dispose();
    context?.dispose();
  });

  it.each([
    ["before the first page", 200, [["dense", "dense", "dense", "dense"]]],
    ["with one page", SEALED[0] + 3, [["dense", "scan", "dense", "dense"]]],
    ["with two pages", SEALED[1] + 3, [["dense", "scan", "vote", "vote"]]],
  ] as const)(
    "%s takes the rungs of the policy, or those a sequence wishes, all in one batch",
    (_, tokens, [rungs]) => {
      const modes = ["policy", "dense", "scan", "vote"] as const;
      const batch = modes.map((mode) => {
        const sequence = driver.start(stream, tokens);
        sequence.mode = mode;
        return sequence;
      });
      const chosen = batch.map((sequence) => rungs.map((_, layer) => driver.retriever.mode(sequence, layer)));
      expect(chosen[0]).toEqual(rungs);
      const outputs = driver.decode(batch, [stream, stream, stream, stream]);
      const statistics = driver.retriever.statistics.read();
      const width = SHAPE.queryHeads * SHAPE.headDim;
      for (const [row, mode] of modes.entries()) {
        for (let layer = 0; layer < SHAPE.layers; layer++) {
          const rung = rungOf(layer, zoneTokensOf(ZONES, tokens), mode);
          const expected = oracle.decode(layer, tokens, rung);
          const where = `${mode}, layer ${layer}`;
          expect(chosen[row]?.[layer], where).toBe(rung.mode);
          expect(statistics[row]?.layers[layer], where).toMatchObject({
            mode: rung.mode,
            candidates: expected.candidates,
            selected: expected.selected,
          });
          const output = outputs[layer]?.subarray(row * width, (row + 1) * width) as Float32Array;
          expect(largestDifference(output, expected.output), where).toBeLessThan(1e-5);
        }
      }
      for (const sequence of batch) sequence.dispose();
    },
  );

  it("gives a fork the mode of its parent, and each its own from then on", () => {
    const parent = driver.start(stream, SEALED[1]);
    parent.mode = "dense";
    const child = parent.fork();
    expect(child.mode).toBe("dense");
    child.mode = "vote";
    expect([parent.mode, driver.retriever.mode(parent, 2), driver.retriever.mode(child, 2)]).toEqual([
      "dense",
      "dense",
      "vote",
    ]);
    parent.dispose();
    child.dispose();
  });
});
