import { describe, expect, it } from "vitest";
import { rmsnorm } from "../../src/dense/index.js";
import { expectClose } from "../support/expect-step.js";
import { Random } from "../support/random.js";
import { rmsnormOracle } from "./oracle.js";

const SEED = 53;

describe(`rmsnorm, seed ${SEED}`, () => {
  it("divides each group by the root of its own mean square", () => {
    const random = new Random(SEED);
    for (const width of [1, 3, 17, 255]) {
      const groups = 3;
      const x = { data: random.normals(2 + 2 * (groups * width + 1)), offset: 2, rowStride: groups * width + 1 };
      const weight = random.normals(width);
      const out = { data: new Float32Array(2 * groups * width), offset: 0, rowStride: groups * width };
      rmsnorm({ x, weight, eps: 1e-5, width, groups, rowCount: 2, out });
      for (let group = 0; group < 2 * groups; group++) {
        const from = 2 + Math.floor(group / groups) * x.rowStride + (group % groups) * width;
        const expected = rmsnormOracle(x.data.subarray(from, from + width), weight, 1e-5);
        // One rounding, to f32, of numbers of a few units.
        expectClose("rmsnorm", out.data.subarray(group * width, (group + 1) * width), expected, 5e-7);
      }
    }
  });

  it("works in place and gives zeros for zeros", () => {
    const random = new Random(SEED);
    const x = { data: random.normals(8), offset: 0, rowStride: 4 };
    x.data.fill(0, 4);
    const expected = rmsnormOracle(x.data.slice(0, 4), Float32Array.of(1, 2, 3, 4), 0);
    rmsnorm({ x, weight: Float32Array.of(1, 2, 3, 4), eps: 0, width: 4, rowCount: 1, out: x });
    expectClose("rmsnorm", x.data.subarray(0, 4), expected, 1e-6);
    rmsnorm({ x, weight: Float32Array.of(1, 2, 3, 4), eps: 1e-6, width: 4, rowCount: 2, out: x });
    expect(Array.from(x.data.subarray(4))).toEqual([0, 0, 0, 0]);
  });

  it("refuses an eps that is no number and weights that are too short", () => {
    const x = { data: new Float32Array(4), offset: 0, rowStride: 4 };
    const args = { x, weight: new Float32Array(4), eps: 1e-5, width: 4, rowCount: 1, out: x };
    expect(() => rmsnorm({ ...args, eps: Number.NaN })).toThrow("Expected eps to be a finite number >= 0");
    expect(() => rmsnorm({ ...args, eps: -1 })).toThrow("Expected eps");
    expect(() => rmsnorm({ ...args, weight: new Float32Array(3) })).toThrow("Expected weight");
    expect(() => rmsnorm({ ...args, groups: 2 })).toThrow("Expected x.rowStride to be an integer >= 8");
  });
});
