import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  createQuantizer,
  decodeWeight,
  encodeKey,
  estimate,
  type GroupPolicy,
  InvalidArgumentError,
  keepTop,
  logSumExp,
  noCalibration,
  prioritize,
  rerank,
  summarizeKeys,
} from "../src/index.js";
import { topBySort } from "./oracles.js";
import { Random } from "./random.js";

describe.each([64, 128, 256])("estimate with head dimension %i (seed 61)", (headDim) => {
  const random = new Random(61);
  const quantizer = createQuantizer({ headDim });
  const tokens = 1025;
  const keys = random.normals(tokens * headDim);
  const { pages } = summarizeKeys({ quantizer, keys, tokens });
  const rotated = random.normals(3 * headDim);
  const candidates = Uint32Array.of(0, 1, 511, 512, 700, 1023, 1024);

  it("equals the sum over codes and weights in f64, across pages and queries", () => {
    const estimates = new Float32Array(3 * candidates.length);
    estimate(quantizer, pages, candidates, candidates.length, rotated, 3, estimates);
    for (let query = 0; query < 3; query++) {
      candidates.forEach((candidate, position) => {
        const { codes, weights } = encodeKey(quantizer, noCalibration(headDim), keys, candidate * headDim);
        let exact = 0;
        codes.forEach((code, j) => {
          const weight = decodeWeight(weights[Math.floor(j / 8)]!);
          exact += weight * quantizer.levels.values[code]! * rotated[query * headDim + j]!;
        });
        // One rounding to f32, of a value below 64 here.
        expect(Math.abs(estimates[query * candidates.length + position]! - exact)).toBeLessThan(64 * 2 ** -24);
      });
    }
  });

  it("refuses arrays that are too short and candidates behind the last page", () => {
    const out = new Float32Array(1);
    const one = Uint32Array.of(0);
    expect(() => estimate(quantizer, pages, one, 2, rotated, 1, out)).toThrow(InvalidArgumentError);
    expect(() => estimate(quantizer, pages, one, 1, rotated, 4, out)).toThrow(InvalidArgumentError);
    expect(() => estimate(quantizer, pages, one, 1, rotated, 2, out)).toThrow(InvalidArgumentError);
    const outside = Uint32Array.of(3 * 512);
    expect(() => estimate(quantizer, pages, outside, 1, rotated, 1, out)).toThrow(
      "Expected candidate to be an index into 3 pages but received 1536.",
    );
  });
});

describe("logSumExp", () => {
  it("survives large values, leaves out what is not finite, and is -Infinity for nothing", () => {
    expect(logSumExp(Float32Array.of(9, 1e4, 1e4), 1, 2, 1)).toBeCloseTo(1e4 + Math.log(2), 10);
    expect(logSumExp(Float32Array.of(-1e4, -1e4), 0, 2, 2)).toBeCloseTo(-2e4 + Math.log(2), 10);
    const odd = Float32Array.of(Number.NaN, 1, Number.POSITIVE_INFINITY, 2, Number.NEGATIVE_INFINITY);
    expect(logSumExp(odd, 0, 5, 0.5)).toBeCloseTo(Math.log(Math.exp(0.5) + Math.exp(1)), 12);
    expect(logSumExp(odd, 0, 1, 1)).toBe(Number.NEGATIVE_INFINITY);
    expect(logSumExp(odd, 0, 0, 1)).toBe(Number.NEGATIVE_INFINITY);
  });
});

describe("prioritize (seed 62)", () => {
  const run = (group: GroupPolicy, estimates: Float32Array, queries: number, scale: number) => {
    const count = estimates.length / queries;
    const logSums = new Float64Array(queries);
    const priorities = new Float64Array(count);
    prioritize(group, estimates, queries, count, scale, logSums, priorities);
    return { logSums, priorities };
  };
  const estimates = new Random(62).normals(3 * 20).map((value, i) => value * (i < 20 ? 8 : 1));
  const softmax = (query: number): number[] => {
    const row = Array.from(estimates.subarray(query * 20, query * 20 + 20), (value) => Math.exp(value / 8));
    const total = row.reduce((sum, value) => sum + value, 0);
    return row.map((value) => value / total);
  };

  it.each(["mean", "max", "sum"] as const)("of one query is its estimates, under %s", (group) => {
    const row = estimates.subarray(0, 20);
    expect(run(group, row, 1, 1 / 8).priorities).toEqual(Float64Array.from(row));
  });

  it("takes the largest softmax share of any head under max", () => {
    const { priorities } = run("max", estimates, 3, 1 / 8);
    priorities.forEach((priority, i) => {
      const shares = [0, 1, 2].map((query) => softmax(query)[i]!);
      expect(Math.exp(priority)).toBeCloseTo(Math.max(...shares), 12);
    });
  });

  it("adds the softmax shares of the heads under sum, so that all priorities add up to the heads", () => {
    const { priorities } = run("sum", estimates, 3, 1 / 8);
    priorities.forEach((priority, i) => {
      expect(priority).toBeCloseTo(softmax(0)[i]! + softmax(1)[i]! + softmax(2)[i]!, 12);
    });
    expect(priorities.reduce((sum, priority) => sum + priority, 0)).toBeCloseTo(3, 12);
  });

  it("gives no say to a head whose estimates are not finite", () => {
    for (const group of ["max", "sum"] as const) {
      const spoilt = estimates.slice();
      spoilt.fill(Number.NaN, 20, 40);
      const { priorities, logSums } = run(group, spoilt, 3, 1 / 8);
      const others = Float32Array.of(...estimates.subarray(0, 20), ...estimates.subarray(40));
      expect(priorities).toEqual(run(group, others, 2, 1 / 8).priorities);
      expect(logSums[1]).toBe(Number.NEGATIVE_INFINITY);
    }
  });

  it("ranks last what has no finite estimate", () => {
    expect(Array.from(run("mean", Float32Array.of(Number.NaN, -5), 1, 1).priorities)).toEqual([-Infinity, -5]);
    const all = new Float32Array(4).fill(Number.NaN);
    expect(Array.from(run("max", all, 2, 1).priorities)).toEqual([-Infinity, -Infinity]);
  });
});

describe("keepTop", () => {
  const run = (priorities: readonly number[], count: number): number[] => {
    // Candidates are spread out, so that a position cannot pass for an index.
    const candidates = Uint32Array.from(priorities, (_, position) => 3 * position + 1);
    const selected = new Uint32Array(Math.min(count, priorities.length));
    const kept = keepTop(Float64Array.from(priorities), candidates, priorities.length, count, selected);
    return Array.from(selected.subarray(0, kept));
  };

  it("equals a full sort, whatever the ties and the count (seed 63)", () => {
    const priority = fc.oneof(
      fc.integer({ min: -2, max: 2 }),
      fc.double({ noNaN: true }),
      fc.constantFrom(0, -0, Number.NEGATIVE_INFINITY),
    );
    fc.assert(
      fc.property(fc.array(priority, { maxLength: 60 }), fc.integer({ min: 0, max: 70 }), (priorities, count) => {
        // The oracle subtracts, which two equal infinities do not survive.
        const finite = priorities.map((value) =>
          Math.max(-Number.MAX_VALUE / 4, Math.min(Number.MAX_VALUE / 4, value)),
        );
        expect(run(finite, count)).toEqual(topBySort(finite, count).map((position) => 3 * position + 1));
      }),
      { seed: 63, numRuns: 500 },
    );
  });

  it("keeps ties by the smaller index, also at -Infinity", () => {
    expect(run([1, 2, 1, 2, 1], 3)).toEqual([1, 4, 10]);
    expect(run([-Infinity, -Infinity, 3], 2)).toEqual([1, 7]);
  });

  it("keeps all when there are fewer than K, one, or none", () => {
    expect(run([3, 1, 2], 100)).toEqual([1, 4, 7]);
    expect(run([3], 100)).toEqual([1]);
    expect(run([], 100)).toEqual([]);
    expect(run([3, 1], 0)).toEqual([]);
  });

  it("refuses arrays that are too short and a K that is no count", () => {
    const two = Float64Array.of(1, 2);
    const candidates = Uint32Array.of(0, 1);
    expect(() => keepTop(two, candidates, 3, 1, candidates)).toThrow(InvalidArgumentError);
    expect(() => keepTop(two, candidates.subarray(1), 2, 1, new Uint32Array(2))).toThrow(InvalidArgumentError);
    expect(() => keepTop(two, candidates, 2, 2, new Uint32Array(1))).toThrow(InvalidArgumentError);
    for (const count of [-1, 0.5, Number.NaN]) {
      expect(() => keepTop(two, candidates, 2, count, new Uint32Array(2))).toThrow(InvalidArgumentError);
    }
  });
});

describe("rerank (seed 64)", () => {
  it("is estimate, prioritize and keepTop in a row", () => {
    const random = new Random(64);
    const quantizer = createQuantizer({ headDim: 64 });
    const keys = random.normals(600 * 64);
    const { pages } = summarizeKeys({ quantizer, keys, tokens: 600 });
    const candidates = Uint32Array.from({ length: 100 }, (_, i) => 6 * i + 1);
    const rotated = random.normals(2 * 64);
    const parameters = {
      quantizer,
      pages,
      group: "max" as const,
      rotated,
      rotatedCount: 2,
      candidates,
      candidateCount: 100,
      retrievalK: 10,
      estimates: new Float32Array(200),
      logSums: new Float64Array(2),
      priorities: new Float64Array(100),
      selected: new Uint32Array(10),
    };
    expect(rerank(parameters)).toBe(10);
    const estimates = new Float32Array(200);
    estimate(quantizer, pages, candidates, 100, rotated, 2, estimates);
    expect(parameters.estimates).toEqual(estimates);
    const priorities = new Float64Array(100);
    prioritize("max", estimates, 2, 100, 1 / 8, new Float64Array(2), priorities);
    expect(parameters.priorities).toEqual(priorities);
    expect(Array.from(parameters.selected)).toEqual(topBySort(priorities, 10).map((position) => candidates[position]));
  });
});
