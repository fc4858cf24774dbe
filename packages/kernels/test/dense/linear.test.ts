import { describe, expect, it } from "vitest";
import { linear } from "../../src/dense/index.js";
import { Random } from "../support/random.js";
import { DTYPES, linearOracle, storeAs } from "./oracle.js";

const SEED = 55;

describe(`linear, seed ${SEED}`, () => {
  it.each(DTYPES)("multiplies with %s weights, adds the bias and what is there", (dtype) => {
    const random = new Random(SEED);
    for (const inWidth of [1, 3, 17, 255]) {
      for (const outWidth of [1, 3, 4, 17, 255]) {
        for (const rowCount of [1, 2, 7]) {
          const { data, values } = storeAs(dtype, random.normals(1 + outWidth * inWidth));
          const x = { data: random.normals(rowCount * (inWidth + 1)), offset: 0, rowStride: inWidth + 1 };
          const older = random.normals(2 + rowCount * (outWidth + 2));
          const biases = random.normals(outWidth);
          for (const [bias, accumulate] of [
            [undefined, false],
            [biases, false],
            [undefined, true],
            [biases, true],
          ] as const) {
            const out = { data: older.slice(), offset: 2, rowStride: outWidth + 2 };
            linear({ x, weight: { data, dtype, offset: 1 }, bias, inWidth, outWidth, rowCount, accumulate, out });
            const oracle = linearOracle({
              x: x.data,
              xStride: x.rowStride,
              weight: values.subarray(1),
              bias,
              older: accumulate ? older.subarray(2) : undefined,
              inWidth,
              outWidth,
              outStride: out.rowStride,
              rowCount,
            });
            const expected = older.slice();
            for (const { at, value } of oracle) expected[2 + at] = value;
            // Sums are in float64, in another order: equal after the rounding to f32, but for a tie.
            for (const { at, magnitude } of oracle) {
              expect(Math.abs(out.data[2 + at]! - expected[2 + at]!)).toBeLessThanOrEqual(1.2e-7 * magnitude);
              out.data[2 + at] = expected[2 + at]!;
            }
            expect(out.data, "nothing beside the result changes").toEqual(expected);
          }
        }
      }
    }
  });

  it("refuses weights of another dtype, rows that overlap each other, and arrays that are too short", () => {
    const matrix = (length: number, rowStride: number) => ({ data: new Float32Array(length), offset: 0, rowStride });
    const weight = { data: new Float32Array(12), dtype: "f32", offset: 0 } as const;
    const args = { x: matrix(8, 4), weight, inWidth: 4, outWidth: 3, rowCount: 2, out: matrix(6, 3) };
    expect(() => linear(args)).not.toThrow();
    expect(() => linear({ ...args, weight: { ...weight, dtype: "bf16" } })).toThrow("Expected weight.data");
    expect(() => linear({ ...args, out: matrix(6, 2) })).toThrow("Expected out.rowStride to be an integer >= 3");
    expect(() => linear({ ...args, x: matrix(7, 4) })).toThrow("Expected x.data to be at least 8 elements long");
    expect(() => linear({ ...args, bias: new Float32Array(2) })).toThrow("Expected bias");
    expect(() => linear({ ...args, inWidth: 0 })).toThrow("Expected inWidth to be an integer >= 1 but received 0.");
    expect(() => linear({ ...args, x: { ...args.x, offset: -1 } })).toThrow("Expected x.offset");
  });
});
