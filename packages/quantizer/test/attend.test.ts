import { describe, expect, it } from "vitest";
import { type AttentionSegment, attend, InvalidArgumentError } from "../src/index.js";
import { attendByDefinition } from "./oracles.js";
import { Random } from "./random.js";

function attended(queries: Float32Array, headDim: number, segments: readonly AttentionSegment[]) {
  const queryHeads = queries.length / headDim;
  const output = new Float32Array(queries.length).fill(99);
  const logSums = new Float32Array(queryHeads).fill(99);
  attend({
    headDim,
    queries,
    queriesOffset: 0,
    queryHeads,
    segments,
    output,
    outputOffset: 0,
    logSums,
    logSumsOffset: 0,
  });
  return { output, logSums };
}

describe.each([64, 128, 256])("attend with head dimension %i (seed 71)", (headDim) => {
  const random = new Random(71);
  const records = random.normals(40 * 2 * headDim);
  const queries = random.normals(3 * headDim).map((value) => 3 * value);
  const all = { records, tokens: 40 };

  it("equals softmax attention in f64", () => {
    const { output, logSums } = attended(queries, headDim, [all]);
    const tokens = Array.from({ length: 40 }, (_, i) => i);
    for (let head = 0; head < 3; head++) {
      const exact = attendByDefinition(queries.subarray(head * headDim, (head + 1) * headDim), records, tokens);
      expect(Math.abs(logSums[head]! - exact.logSum)).toBeLessThan(1e-5);
      exact.output.forEach((value, j) => {
        expect(Math.abs(output[head * headDim + j]! - value)).toBeLessThan(1e-6);
      });
    }
  });

  it("does not care how its rows are cut into segments", () => {
    const cut = 17 * 2 * headDim;
    const parts = [
      { records: records.subarray(0, cut), tokens: 17 },
      { records: new Float32Array(0), tokens: 0 },
      { records: records.subarray(cut), tokens: 23 },
    ];
    expect(attended(queries, headDim, parts)).toEqual(attended(queries, headDim, [all]));
  });

  it("treats a key whose logit is not finite as absent", () => {
    const spoilt = new Float32Array(43 * 2 * headDim).fill(1e9);
    spoilt.set(records);
    spoilt[40 * 2 * headDim] = Number.NaN;
    spoilt[41 * 2 * headDim] = Number.POSITIVE_INFINITY;
    spoilt[42 * 2 * headDim] = Number.NEGATIVE_INFINITY;
    expect(attended(queries, headDim, [{ records: spoilt, tokens: 43 }])).toEqual(attended(queries, headDim, [all]));
  });

  it("stays exact for logits far beyond the range of exp", () => {
    const huge = queries.map((value) => value * 1000);
    const { output, logSums } = attended(huge, headDim, [all]);
    expect(output.every(Number.isFinite)).toBe(true);
    expect(logSums.every((logSum) => logSum > 1000 && Number.isFinite(logSum))).toBe(true);
  });

  it("writes zeros and -Infinity when nothing is left", () => {
    const nothing = [
      attended(queries, headDim, []),
      attended(queries, headDim, [{ records: new Float32Array(2 * headDim).fill(Number.NaN), tokens: 1 }]),
      attended(new Float32Array(3 * headDim).fill(Number.NaN), headDim, [all]),
    ];
    for (const { output, logSums } of nothing) {
      expect(output.every((value) => value === 0)).toBe(true);
      expect(Array.from(logSums)).toEqual([-Infinity, -Infinity, -Infinity]);
    }
  });

  it("returns the value of a single key", () => {
    const { output } = attended(queries, headDim, [{ records, tokens: 1 }]);
    expect(output.subarray(0, headDim)).toEqual(records.subarray(headDim, 2 * headDim));
  });
});

describe("attend", () => {
  const parameters = {
    headDim: 64,
    queries: new Random(72).normals(2 * 64 + 3),
    queriesOffset: 3,
    queryHeads: 2,
    segments: [{ records: new Random(73).normals(2 * 2 * 64), tokens: 2 }],
    output: new Float32Array(2 * 64 + 5),
    outputOffset: 5,
    logSums: new Float32Array(3),
    logSumsOffset: 1,
  };

  it("reads and writes at offsets, and nowhere else", () => {
    parameters.output.fill(7);
    parameters.logSums.fill(7);
    attend(parameters);
    const plain = attended(parameters.queries.subarray(3), 64, parameters.segments);
    expect(parameters.output.subarray(5)).toEqual(plain.output);
    expect(parameters.logSums.subarray(1)).toEqual(plain.logSums);
    expect(Array.from(parameters.output.subarray(0, 5))).toEqual([7, 7, 7, 7, 7]);
    expect(parameters.logSums[0]).toBe(7);
  });

  it.each([
    { queryHeads: 0 },
    { queryHeads: 3 },
    { queriesOffset: 4 },
    { outputOffset: 6 },
    { logSumsOffset: 2 },
    { segments: [{ records: new Float32Array(255), tokens: 2 }] },
  ])("refuses %o", (change) => {
    expect(() => attend({ ...parameters, ...change })).toThrow(InvalidArgumentError);
  });
});
