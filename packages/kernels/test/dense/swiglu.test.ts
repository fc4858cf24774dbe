import { describe, expect, it } from "vitest";
import { swiglu } from "../../src/dense/index.js";
import { expectClose } from "../support/expect-step.js";
import { Random } from "../support/random.js";
import { swigluOracle } from "./oracle.js";

const SEED = 60;

describe(`swiglu, seed ${SEED}`, () => {
  it("gates the second half of a row with the first", () => {
    const random = new Random(SEED);
    for (const width of [1, 3, 17, 255]) {
      const x = { data: random.normals(3 * (2 * width + 1)), offset: 0, rowStride: 2 * width + 1 };
      const out = { data: new Float32Array(3 * width), offset: 0, rowStride: width };
      swiglu({ x, width, rowCount: 3, out });
      const expected = Float64Array.from(out.data, (_, i) => {
        const at = Math.floor(i / width) * x.rowStride + (i % width);
        return swigluOracle(x.data[at]!, x.data[at + width]!);
      });
      expectClose("swiglu", out.data, expected, 1e-6);
    }
  });

  it("works in place, and goes to zero and to the gate at the ends", () => {
    const x = { data: Float32Array.of(-1000, 1000, 0, Number.NaN, 1, 2, 3, 4), offset: 0, rowStride: 8 };
    swiglu({ x, width: 4, rowCount: 1, out: x });
    expect(Array.from(x.data.subarray(0, 4))).toEqual([-0, 2000, 0, Number.NaN]);
  });

  it("refuses rows that hold no pair", () => {
    const x = { data: new Float32Array(7), offset: 0, rowStride: 8 };
    expect(() => swiglu({ x, width: 4, rowCount: 1, out: x })).toThrow(
      "Expected x.data to be at least 8 elements long",
    );
  });
});
