import { describe, expect, it } from "vitest";
import { Driver, SEALED, SHAPE, ZONES } from "./support/drive.js";
import { Oracle } from "./support/oracle.js";
import { TokenStream } from "./support/token-stream.js";

const SEED = 1607;
/** Bytes of K and V of one token and KV head in f32; bytes of codes and weights of one key, and of its ids. */
const RECORD = 2 * 64 * 4;
const CODES_AND_WEIGHTS = 32 + 8;
const IDS = 8;

describe(`statistics (seed ${SEED})`, () => {
  const stream = new TokenStream(SHAPE, "f32", SEALED[1] + 40, SEED);

  it("count what every rung reads, exactly", () => {
    const policy = { mode: "vote", topK: 20, candidateShare: 0.1, layers: { 0: { mode: "scan" } } } as const;
    using driver = new Driver({ policy, maxSequences: 2 });
    const sequence = driver.start(stream, SEALED[0] + 7);
    const dense = sequence.fork();
    dense.mode = "dense";
    driver.decode([sequence, dense], [stream, stream]);
    const [searched, all] = driver.retriever.statistics.read();
    const tokens = { sink: 5, zone: 512, ring: SEALED[0] + 8 - 517 };
    const denseLayer = (tokens.sink + tokens.zone + tokens.ring) * 2 * RECORD;
    const searchedLayer = (tokens.sink + tokens.ring) * 2 * RECORD + 2 * 20 * RECORD;
    expect(searched).toMatchObject({
      tokens,
      layers: [
        { mode: "scan", candidates: 1024, selected: 40, hotHits: 0, summaryBytesRead: 1024 * CODES_AND_WEIGHTS },
        { mode: "vote", candidates: 2 * 80, selected: 40, summaryBytesRead: 1024 * IDS + 160 * CODES_AND_WEIGHTS },
      ],
      recordBytesRead: 2 * searchedLayer,
      denseBytes: 2 * denseLayer,
      readShare: searchedLayer / denseLayer,
    });
    for (const layer of searched?.layers ?? []) expect(layer.recordBytesRead).toBe(searchedLayer);
    const layer = {
      mode: "dense",
      candidates: 0,
      selected: 1024,
      hotHits: 0,
      summaryBytesRead: 0,
      recordBytesRead: denseLayer,
      estimatedMass: 1,
    };
    expect(all).toMatchObject({ tokens, layers: [layer, layer], readShare: 1 });
  });

  it("count the token of the step itself, in the sink and in the ring", () => {
    using driver = new Driver();
    const sequence = driver.start(stream, ZONES.sinkTokens - 1);
    driver.decode([sequence], [stream]);
    expect(driver.retriever.statistics.read()[0]?.tokens).toEqual({ sink: 5, zone: 0, ring: 0 });
    driver.decode([sequence], [stream]);
    expect(driver.retriever.statistics.read()[0]?.tokens).toEqual({ sink: 5, zone: 0, ring: 1 });
  });

  it("are those of the last decode step: prefill leaves them, and an aborted step has none", () => {
    using driver = new Driver({ policy: { mode: "vote", topK: 20 } });
    expect(driver.retriever.statistics.read()).toEqual([]);
    const sequence = driver.start(stream, SEALED[0]);
    driver.decode([sequence], [stream]);
    const before = driver.retriever.statistics.read();
    driver.prefill(sequence, stream, SEALED[0] + 20);
    expect(driver.retriever.statistics.read()).toEqual(before);
    driver.retriever.beginStep([{ sequence, tokens: 3 }]);
    driver.retriever.abortStep();
    expect(driver.retriever.statistics.read()).toEqual(before);
    driver.retriever.beginStep([{ sequence }]);
    driver.retriever.abortStep();
    expect(driver.retriever.statistics.read()).toEqual([]);
  });

  /** Mean estimated and exact mass of layer 0 over twenty steps behind the second page. */
  function masses(shape: typeof SHAPE, mode: "scan" | "vote") {
    const own = shape === SHAPE ? stream : new TokenStream(shape, "f32", SEALED[1] + 40, SEED);
    const oracle = new Oracle(own, ZONES, "graded", "max");
    const candidateShare = mode === "scan" ? 1 : 0.25;
    using driver = new Driver({ shape, policy: { mode, topK: 32, candidateShare }, estimateMass: true });
    const sequence = driver.start(own, SEALED[1]);
    let estimated = 0;
    let exact = 0;
    for (let count = 0; count < 20; count++) {
      const rung = { mode, topK: 32, candidates: mode === "scan" ? 1024 : 256 };
      const { mass } = oracle.decode(0, sequence.tokens, rung);
      driver.decode([sequence], [own]);
      estimated += (driver.retriever.statistics.read()[0]?.layers[0]?.estimatedMass as number) / 20;
      exact += mass.reduce((sum, share) => sum + share, 0) / mass.length / 20;
    }
    return { estimated, exact };
  }

  it("estimate the attended mass to .02 where every key is estimated", () => {
    const { estimated, exact } = masses(SHAPE, "scan");
    expect(exact).toBeGreaterThan(0.3);
    expect(exact).toBeLessThan(0.9);
    expect(Math.abs(estimated - exact)).toBeLessThan(0.02);
  });

  it("estimate it to .02 from votes of one query head, and rather too little from the largest of several", () => {
    const one = masses({ ...SHAPE, queryHeads: 2 }, "vote");
    expect(one.exact).toBeGreaterThan(0.3);
    expect(one.exact).toBeLessThan(0.9);
    expect(Math.abs(one.estimated - one.exact)).toBeLessThan(0.02);
    const several = masses(SHAPE, "vote");
    expect(several.estimated).toBeLessThan(several.exact + 0.02);
    expect(several.estimated).toBeGreaterThan(several.exact - 0.3);
  });

  it("leave the mass open where nobody asked for it", () => {
    using driver = new Driver({ policy: { mode: "vote", topK: 20 } });
    const sequence = driver.start(stream, SEALED[0]);
    driver.decode([sequence], [stream]);
    const masses = driver.retriever.statistics.read()[0]?.layers.map((layer) => layer.estimatedMass);
    expect(masses).toEqual([null, null]);
  });

  it("say that nothing is missing where nothing was left out, and nothing attended", () => {
    using driver = new Driver({ policy: { mode: "vote", topK: 20 }, estimateMass: true });
    const sequence = driver.start(stream, SEALED[0]);
    const row = stream.decode(0, SEALED[0]);
    driver.steps.decode([sequence], () => ({ ...row, q: row.q.map(() => Number.NaN) }));
    for (const layer of driver.retriever.statistics.read()[0]?.layers ?? []) {
      expect([0, 1]).toContain(layer.estimatedMass);
    }
  });
});
