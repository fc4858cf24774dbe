import { describe, expect, it } from "vitest";
import { argmax } from "../../src/dense/index.js";
import { Random } from "../support/random.js";
import { argmaxOracle } from "./oracle.js";

const SEED = 62;

describe(`argmax, seed ${SEED}`, () => {
  it("finds the largest, ties to the smaller index, and never NaN", () => {
    const random = new Random(SEED);
    for (const width of [1, 3, 17, 255]) {
      for (let round = 0; round < 20; round++) {
        // Whole numbers, so that there are ties.
        const data = random.normals(width).map((value) => (random.below(4) === 0 ? Number.NaN : Math.round(value)));
        const out = new Int32Array(1);
        argmax({ x: { data, offset: 0, rowStride: width }, width, rowCount: 1, out });
        expect(out[0]).toBe(argmaxOracle(data));
      }
    }
  });

  it("knows -Infinity from NaN and gives 0 for NaN alone", () => {
    const [nan, low] = [Number.NaN, Number.NEGATIVE_INFINITY];
    const x = { data: Float32Array.of(9, nan, nan, low, 9, nan, nan, nan), offset: 1, rowStride: 4 };
    const out = Int32Array.of(7, 7);
    argmax({ x, width: 3, rowCount: 2, out });
    expect(Array.from(out)).toEqual([2, 0]);
  });

  it("refuses an output that is too short", () => {
    const x = { data: new Float32Array(4), offset: 0, rowStride: 2 };
    expect(() => argmax({ x, width: 2, rowCount: 2, out: new Int32Array(1) })).toThrow("Expected out");
  });
});
