import type { Context, Group, Votes } from "@pariskv/kernels";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeDevices } from "../../kernels/test/support/devices.js";
import type { RetrievalPolicy } from "../src/index.js";
import { Driver, largestDifference, SEALED, ZONES } from "./support/drive.js";
import { type Expected, Oracle, type Rung, zoneTokensOf } from "./support/oracle.js";
import { TokenStream } from "./support/token-stream.js";

/** Layer 0 is dense as in a real model, layer 1 votes, layer 2 estimates every key. */
const SHAPE = { layers: 3, queryHeads: 4, kvHeads: 2, headDim: 64 };
const LAYERS = { 0: { mode: "dense" }, 2: { mode: "scan", topK: 40 } } as const;
const SEED = 501;

/** f32: rounding of the sums; bf16: the specification's bound, though K and V are the same numbers. */
const CASES = [
  { votes: "graded", group: "max", kvDtype: "f32", tolerance: 1e-5 },
  { votes: "tiered", group: "mean", kvDtype: "f32", tolerance: 1e-5 },
  { votes: "graded", group: "sum", kvDtype: "bf16", tolerance: 2e-3 },
] as const;

/** The first tokens, the end of the sink, both seals, the ring's wrap, and a step behind each. */
const BOUNDARIES = [1, ZONES.sinkTokens, SEALED[0], ZONES.sinkTokens + 655, SEALED[1]];

function rungOf(layer: number, zone: number): Rung {
  const topK = layer === 2 ? 40 : 24;
  if (layer === 0 || zone <= topK) return { mode: "dense" };
  if (layer === 2) return { mode: "scan", topK, candidates: zone };
  return { mode: "vote", topK, candidates: Math.min(zone, Math.max(4 * topK, Math.ceil(zone / 8))) };
}

const oracles = new Map<string, Oracle>();
const answers = new Map<string, Expected>();

/** The oracle's step, computed once for all devices. */
function expectedStep(votes: Votes, group: Group, stream: TokenStream, layer: number, position: number): Expected {
  const setting = `${votes}/${group}/${stream.dtype}`;
  const oracle = oracles.get(setting) ?? new Oracle(stream, ZONES, votes, group);
  oracles.set(setting, oracle);
  const name = `${setting}/${layer}/${position}`;
  const answer = answers.get(name) ?? oracle.decode(layer, position, rungOf(layer, zoneTokensOf(ZONES, position)));
  answers.set(name, answer);
  return answer;
}

const streams = new Map(
  (["f32", "bf16"] as const).map((dtype) => [dtype, new TokenStream(SHAPE, dtype, SEALED[1] + 4, SEED)]),
);

describeDevices(`decode steps (seed ${SEED})`, (device) => {
  let context: Context;
  beforeAll(() => {
    context = device.open();
  });
  afterAll(() => context?.dispose());

  it.each(CASES)("equal the oracle in every layer at every boundary: $votes, $group, $kvDtype", (options) => {
    const { votes, group, kvDtype, tolerance } = options;
    const stream = streams.get(kvDtype) as TokenStream;
    const policy: Partial<RetrievalPolicy> = {
      mode: "vote",
      topK: 24,
      candidateShare: 1 / 8,
      votes,
      group,
      layers: LAYERS,
    };
    using driver = new Driver({ shape: SHAPE, kvDtype, policy, maxTokens: stream.tokens }, context);
    const sequence = driver.start(stream, 0);
    for (const boundary of BOUNDARIES) {
      if (sequence.tokens < boundary - 2) driver.prefill(sequence, stream, boundary - 2);
      while (sequence.tokens < boundary + 2) {
        const position = sequence.tokens;
        const outputs = driver.decode([sequence], [stream]);
        const statistics = driver.retriever.statistics.read()[0];
        expect(statistics?.tokens.zone).toBe(zoneTokensOf(ZONES, position));
        for (const [layer, output] of outputs.entries()) {
          const expected = expectedStep(votes, group, stream, layer, position);
          const where = `layer ${layer} at position ${position}`;
          expect(largestDifference(output, expected.output), where).toBeLessThan(tolerance);
          const { candidates, selected, mode } = statistics?.layers[layer] ?? {};
          expect({ candidates, selected, mode }, where).toEqual({
            candidates: expected.candidates,
            selected: expected.selected,
            mode: rungOf(layer, zoneTokensOf(ZONES, position)).mode,
          });
        }
      }
    }
  });
});
