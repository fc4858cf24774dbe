import { describe, expect, it } from "vitest";
import { attend, type CalibrationMode, findCalibration, InvalidArgumentError, noCalibration } from "../src/index.js";
import { dot } from "./oracles.js";
import { Random } from "./random.js";

const headDim = 64;
const keyCount = 500;
const queryCount = 300;
const random = new Random(81);
// Channel j has mean j, key deviation j + 1 and query deviation 2: D_j should be sqrt((j + 1) / 2).
const keys = random.normals(keyCount * headDim).map((value, i) => (i % headDim) + value * ((i % headDim) + 1));
const queries = random.normals(queryCount * headDim).map((value) => 5 + value * 2);
const sample = { headDim, keys, keyCount, queries, queryCount };

describe("calibration (seed 81)", () => {
  it("of mode none changes nothing", () => {
    expect(findCalibration({ mode: "none", headDim, keys, keyCount })).toEqual(noCalibration(headDim));
    expect(noCalibration(headDim).center.every((value) => value === 0)).toBe(true);
    expect(noCalibration(headDim).balance.every((value) => value === 1)).toBe(true);
  });

  it("of mode center finds the mean key and needs no queries", () => {
    const { center, balance, mode } = findCalibration({ mode: "center", headDim, keys, keyCount });
    expect(mode).toBe("center");
    expect(balance.every((value) => value === 1)).toBe(true);
    center.forEach((value, j) => {
      // Four standard errors of the mean of 500 draws.
      expect(Math.abs(value - j)).toBeLessThan((4 * (j + 1)) / Math.sqrt(keyCount));
    });
  });

  it("of mode balance finds the root of the ratio of deviations", () => {
    const { center, balance } = findCalibration({ mode: "balance", ...sample });
    expect(center).toEqual(findCalibration({ mode: "center", headDim, keys, keyCount }).center);
    balance.forEach((value, j) => {
      // A deviation of 500 draws is good to 3 %, the ratio's root to 2.5 %; four times that.
      expect(Math.abs(value / Math.sqrt((j + 1) / 2) - 1)).toBeLessThan(0.1);
    });
  });

  it("leaves rows out that are not finite", () => {
    const spoilt = new Float32Array((keyCount + 2) * headDim);
    spoilt.set(keys);
    spoilt[keyCount * headDim] = Number.NaN;
    spoilt[(keyCount + 1) * headDim + 9] = Number.NEGATIVE_INFINITY;
    expect(findCalibration({ mode: "balance", ...sample, keys: spoilt, keyCount: keyCount + 2 })).toEqual(
      findCalibration({ mode: "balance", ...sample }),
    );
  });

  it("leaves channels alone that do not vary, and copes with an empty sample", () => {
    const constant = new Float32Array(keyCount * headDim).fill(3);
    const found = findCalibration({ mode: "balance", ...sample, keys: constant });
    expect(found.center.every((value) => value === 3)).toBe(true);
    expect(found.balance.every((value) => value === 1)).toBe(true);
    const flat = findCalibration({ mode: "balance", ...sample, queries: new Float32Array(queries.length) });
    expect(flat.balance.every((value) => value === 1)).toBe(true);
    expect(findCalibration({ mode: "center", headDim, keys, keyCount: 0 })).toMatchObject({
      center: noCalibration(headDim).center,
      balance: noCalibration(headDim).balance,
    });
  });

  it.each(["center", "balance"] as const)("of mode %s leaves attention unchanged", (mode) => {
    const { center, balance } = findCalibration({ mode, ...sample });
    const values = random.normals(50 * headDim);
    const plain = new Float32Array(50 * 2 * headDim);
    const calibrated = new Float32Array(50 * 2 * headDim);
    for (let i = 0; i < 50; i++) {
      const row = values.subarray(i * headDim, (i + 1) * headDim);
      plain.set(row, (2 * i + 1) * headDim);
      calibrated.set(row, (2 * i + 1) * headDim);
      for (let j = 0; j < headDim; j++) {
        const key = keys[i * headDim + j]!;
        plain[2 * i * headDim + j] = key;
        calibrated[2 * i * headDim + j] = (key - center[j]!) / balance[j]!;
      }
    }
    const query = queries.subarray(0, headDim).map((value) => value / 20);
    const balanced = query.map((value, j) => value * balance[j]!);
    const run = (q: Float32Array, records: Float32Array) => {
      const result = { output: new Float32Array(headDim), logSums: new Float32Array(1) };
      const segments = [{ records, tokens: 50 }];
      attend({
        headDim,
        queries: q,
        queriesOffset: 0,
        queryHeads: 1,
        segments,
        outputOffset: 0,
        logSumsOffset: 0,
        ...result,
      });
      return result;
    };
    const [before, after] = [run(query, plain), run(balanced, calibrated)];
    // Logits of the order of 100, whose f32 rounding moves a share by about 1e-5.
    before.output.forEach((value, j) => {
      expect(Math.abs(after.output[j]! - value)).toBeLessThan(1e-4);
    });
    const shift = dot(center, query) / Math.sqrt(headDim);
    expect(Math.abs(after.logSums[0]! + shift - before.logSums[0]!)).toBeLessThan(1e-3);
  });

  it.each([
    { mode: "whiten" as CalibrationMode },
    { mode: "balance" as const, queryCount: 0 },
    { mode: "balance" as const, queryCount: queryCount + 1 },
    { mode: "center" as const, keyCount: keyCount + 1 },
    { mode: "center" as const, keyCount: -1 },
    { mode: "center" as const, headDim: 0 },
  ])("refuses %o", (change) => {
    expect(() => findCalibration({ ...sample, ...change })).toThrow(InvalidArgumentError);
  });
});
