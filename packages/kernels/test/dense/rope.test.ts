import { describe, expect, it } from "vitest";
import { rope, ropeFrequencies } from "../../src/dense/index.js";
import { expectClose } from "../support/expect-step.js";
import { Random } from "../support/random.js";
import { ropeOracle } from "./oracle.js";

const SEED = 58;

describe(`rope, seed ${SEED}`, () => {
  it("turns each pair of each head by position times frequency, and leaves rows of slot -1 alone", () => {
    const random = new Random(SEED);
    const [heads, headDim] = [3, 64];
    const frequencies = ropeFrequencies({ headDim, theta: 1e6 });
    const positions = [0, 1, 1_000_000, 7];
    const table = Int32Array.from(positions.flatMap((position, r) => [r === 3 ? -1 : 2, position]));
    const rowStride = heads * headDim + 1;
    const before = random.normals(1 + positions.length * rowStride);
    const x = { data: before.slice(), offset: 1, rowStride };
    rope({ x, heads, headDim, frequencies, table, rowCount: positions.length });
    const expected = Float64Array.from(before);
    for (const [r, position] of positions.entries()) {
      for (let head = 0; head < heads; head++) {
        const at = 1 + r * rowStride + head * headDim;
        if (r !== 3) expected.set(ropeOracle(before.subarray(at, at + headDim), position, frequencies), at);
      }
    }
    // Cosine, sine and result are rounded to f32; the values are below 8.
    expectClose("rope", x.data, expected, 1e-6);
    expect(x.data.subarray(1, 1 + heads * headDim), "position 0").toEqual(before.subarray(1, 1 + heads * headDim));
  });

  it("keeps inner products a function of the distance, also a million tokens away", () => {
    const random = new Random(SEED);
    const headDim = 128;
    const frequencies = ropeFrequencies({ headDim, theta: 5e5 });
    const [q, k] = [random.normals(headDim), random.normals(headDim)];
    const product = (position: number): number => {
      const x = { data: Float32Array.from([...q, ...k]), offset: 0, rowStride: headDim };
      rope({ x, heads: 1, headDim, frequencies, table: Int32Array.of(0, position + 25, 0, position), rowCount: 2 });
      let sum = 0;
      for (let j = 0; j < headDim; j++) sum += x.data[j]! * x.data[headDim + j]!;
      return sum;
    };
    // 128 products of about 1 with f32 rounding of both factors.
    expect(Math.abs(product(1_000_000) - product(0))).toBeLessThan(2e-5);
  });

  it("refuses an odd head dimension and tables that are too short", () => {
    const x = { data: new Float32Array(8), offset: 0, rowStride: 8 };
    const args = { x, heads: 2, headDim: 4, frequencies: new Float32Array(2), table: new Int32Array(2), rowCount: 1 };
    expect(() => rope(args)).not.toThrow();
    expect(() => rope({ ...args, headDim: 3 })).toThrow("Expected headDim to be even but received 3.");
    expect(() => rope({ ...args, frequencies: new Float32Array(1) })).toThrow("Expected frequencies");
    expect(() => rope({ ...args, table: new Int32Array(1) })).toThrow("Expected table");
    expect(() => rope({ ...args, heads: 3 })).toThrow("Expected x.rowStride");
  });
});
