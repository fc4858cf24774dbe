import { InvalidArgumentError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { createRandomSource } from "../../src/text/random.js";
import { Sampler, type SamplingOptions } from "../../src/text/sampler.js";

const SEED = 7;
console.info(`sampler tests: seed ${SEED}`);
const ALL: SamplingOptions = { temperature: 1, topK: 0, topP: 1, minP: 0, seed: SEED };
const DRAWS = 20_000;

/** Logits whose softmax is the given distribution: `[vocabSize] f32`. */
const logitsOf = (...shares: number[]) => Float32Array.from(shares, Math.log);

/** The share of each token in many draws: `[vocabSize]`. */
function shares(options: Partial<SamplingOptions>, logits: Float32Array): number[] {
  const sampler = new Sampler({ ...ALL, ...options });
  const counts = new Array<number>(logits.length).fill(0);
  for (let draw = 0; draw < DRAWS; draw += 1) {
    const id = sampler.choose(logits);
    counts[id] = (counts[id] ?? 0) + 1;
  }
  return counts.map((count) => count / DRAWS);
}

/** Five standard deviations of a share p in that many draws are at most 5 * sqrt(0.25 / 20,000) = 0.018. */
function expectShares(actual: readonly number[], expected: readonly number[]): void {
  for (const [id, share] of expected.entries()) {
    if (share === 0) expect(actual[id], `token ${id}`).toBe(0);
    else expect(Math.abs((actual[id] ?? 0) - share), `token ${id}`).toBeLessThan(0.018);
  }
}

describe("greedy", () => {
  const greedy = new Sampler({ ...ALL, temperature: 0 });

  it("chooses the greatest logit, ties to the smaller id", () => {
    expect(greedy.choose(Float32Array.of(1, 3, 2))).toBe(1);
    expect(greedy.choose(Float32Array.of(1, 3, 3, 3))).toBe(1);
    expect(greedy.choose(Float32Array.of(-5))).toBe(0);
  });

  it("never chooses a logit that is not finite", () => {
    expect(greedy.choose(Float32Array.of(Number.NaN, -3, Number.POSITIVE_INFINITY, -2, Number.NEGATIVE_INFINITY))).toBe(
      3,
    );
  });

  it("refuses logits of which none is finite", () => {
    for (const logits of [
      new Float32Array(0),
      Float32Array.of(Number.NaN),
      Float32Array.of(Number.NEGATIVE_INFINITY),
    ]) {
      expect(() => greedy.choose(logits)).toThrow(InvalidArgumentError);
    }
  });
});

describe("sampled", () => {
  const distribution = [0.4, 0.3, 0.2, 0.1];
  const logits = logitsOf(...distribution);

  it("follows the distribution", () => {
    expectShares(shares({}, logits), distribution);
  });

  it("a temperature of 0.5 squares the shares", () => {
    const squares = distribution.map((share) => share * share);
    const total = squares.reduce((sum, share) => sum + share, 0);
    expectShares(
      shares({ temperature: 0.5 }, logits),
      squares.map((share) => share / total),
    );
  });

  it.each<[string, Partial<SamplingOptions>, number[]]>([
    ["top-k 2 keeps the two most likely", { topK: 2 }, [4 / 7, 3 / 7, 0, 0]],
    ["top-k above the vocabulary keeps all", { topK: 100 }, distribution],
    ["top-p keeps the token that crosses the share", { topP: 0.6 }, [4 / 7, 3 / 7, 0, 0]],
    ["a small top-p keeps one token", { topP: 0.01 }, [1, 0, 0, 0]],
    ["a top-p of 0 keeps one token", { topP: 0 }, [1, 0, 0, 0]],
    ["top-p counts within top-k", { topK: 2, topP: 0.5 }, [1, 0, 0, 0]],
    ["min-p compares with the most likely", { minP: 0.45 }, [4 / 9, 3 / 9, 2 / 9, 0]],
    ["a min-p of 1 keeps one token", { minP: 1 }, [1, 0, 0, 0]],
    ["min-p cuts what top-p keeps", { topP: 0.95, minP: 0.7 }, [4 / 7, 3 / 7, 0, 0]],
  ])("%s", (_, options, expected) => {
    expectShares(shares(options, logits), expected);
  });

  it("takes ties at the border of top-k from the smaller ids", () => {
    expectShares(shares({ topK: 2 }, logitsOf(0.1, 0.3, 0.3, 0.3)), [0, 0.5, 0.5, 0]);
  });

  it("never chooses a logit that is not finite, with and without limits", () => {
    const broken = Float32Array.of(Number.NaN, 0, Number.NEGATIVE_INFINITY, 0, Number.POSITIVE_INFINITY);
    expectShares(shares({}, broken), [0, 0.5, 0, 0.5, 0]);
    expectShares(shares({ topK: 5, topP: 0.99 }, broken), [0, 0.5, 0, 0.5, 0]);
  });

  it("agrees with sorting the whole vocabulary", () => {
    const random = createRandomSource(SEED);
    for (let round = 0; round < 200; round += 1) {
      const vocabulary = Float32Array.from({ length: 50 }, () => Math.fround(random() * 6));
      const [topK, topP, minP] = [Math.floor(random() * 20), 0.3 + 0.7 * random(), random() * 0.5];
      const kept = keptBySorting(vocabulary, topK, topP, minP);
      const sampler = new Sampler({ ...ALL, topK, topP, minP, seed: round });
      const seen = new Set(Array.from({ length: 50 }, () => sampler.choose(vocabulary)));
      expect(
        [...seen].every((id) => kept.has(id)),
        `round ${round}`,
      ).toBe(true);
    }
  });

  it("the same seed gives the same tokens, another seed others, and the logits stay as they were", () => {
    const random = createRandomSource(SEED);
    const vocabulary = Float32Array.from({ length: 1_000 }, () => random() * 4);
    const copy = vocabulary.slice();
    const draw = (seed: number) => {
      const sampler = new Sampler({ ...ALL, topK: 100, topP: 0.95, seed });
      return Array.from({ length: 50 }, () => sampler.choose(vocabulary));
    };
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
    expect(vocabulary).toEqual(copy);
  });

  it("takes vocabularies of different sizes one after the other", () => {
    const sampler = new Sampler(ALL);
    expect(sampler.choose(Float32Array.of(0, -1e30))).toBe(0);
    expect(sampler.choose(Float32Array.of(-1e30, -1e30, 0))).toBe(2);
    expect(sampler.choose(Float32Array.of(3))).toBe(0);
  });

  it.each<Partial<SamplingOptions>>([
    { temperature: -0.1 },
    { temperature: Number.NaN },
    { temperature: Number.POSITIVE_INFINITY },
    { topK: -1 },
    { topK: 1.5 },
    { topP: 1.01 },
    { topP: -0.1 },
    { minP: 2 },
    { seed: -1 },
    { seed: 0.5 },
    { seed: 2 ** 53 },
  ])("refuses %j", (options) => {
    expect(() => new Sampler({ ...ALL, ...options })).toThrow(InvalidArgumentError);
  });
});

/** The ids that top-k, top-p and min-p leave, by sorting and by the definitions of each. */
function keptBySorting(logits: Float32Array, topK: number, topP: number, minP: number): Set<number> {
  const greatest = Math.max(...logits);
  let tokens = [...logits].map((logit, id) => ({ id, likelihood: Math.exp(logit - greatest) }));
  tokens.sort((a, b) => b.likelihood - a.likelihood || a.id - b.id);
  if (topK > 0) tokens = tokens.slice(0, topK);
  const total = tokens.reduce((sum, { likelihood }) => sum + likelihood, 0);
  let before = 0;
  tokens = tokens.filter(({ likelihood }, index) => {
    const isKept = index === 0 || before < topP * total;
    before += likelihood;
    return isKept;
  });
  return new Set(tokens.filter(({ likelihood }) => likelihood >= minP).map(({ id }) => id));
}

describe("createRandomSource", () => {
  it("gives the same numbers on every machine", () => {
    const random = createRandomSource(SEED);
    expect(Array.from({ length: 3 }, () => random())).toEqual(RECORDED);
  });

  it("gives numbers in [0, 1) that fill it evenly, and different ones for near seeds and for seeds 2^32 apart", () => {
    const random = createRandomSource(SEED);
    const numbers = Array.from({ length: 100_000 }, () => random());
    expect(numbers.every((number) => number >= 0 && number < 1)).toBe(true);
    // The mean of n uniform numbers has a standard deviation of 0.289 / sqrt(n); five of them are 0.0046.
    expect(Math.abs(numbers.reduce((sum, number) => sum + number, 0) / numbers.length - 0.5)).toBeLessThan(0.0046);
    const first = [0, 1, 2, 2 ** 32, 2 ** 32 + 1].map((seed) => createRandomSource(seed)());
    expect(new Set(first).size).toBe(first.length);
  });
});

// What this generator gave when it was written: a change would change every sampled answer.
const RECORDED = [0.17272426490461135, 0.9226569584349407, 0.25378156210579883];
