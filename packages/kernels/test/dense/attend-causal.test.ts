import { describe, expect, it } from "vitest";
import { attendCausal } from "../../src/dense/index.js";
import { expectClose } from "../support/expect-step.js";
import { Random } from "../support/random.js";
import { storeAs } from "./oracle.js";

const SEED = 64;

/** Softmax attention over records 0 .. position, `[tokens, 2, headDim]`, in float64 and in one piece. */
function attentionOracle(records: Float32Array, headDim: number, q: Float32Array, position: number): Float64Array {
  const logits = Array.from({ length: position + 1 }, (_, token) => {
    let product = 0;
    for (let c = 0; c < headDim; c++) product += q[c]! * records[token * 2 * headDim + c]!;
    return product / Math.sqrt(headDim);
  });
  const largest = logits.reduce((best, logit) => (Number.isFinite(logit) && logit > best ? logit : best), -1e300);
  const sums = new Float64Array(headDim);
  let total = 0;
  for (const [token, logit] of logits.entries()) {
    if (!Number.isFinite(logit)) continue;
    const weight = Math.exp(logit - largest);
    total += weight;
    for (let c = 0; c < headDim; c++) sums[c]! += weight * records[(token * 2 + 1) * headDim + c]!;
  }
  return total > 0 ? sums.map((sum) => sum / total) : sums;
}

describe(`attendCausal, seed ${SEED}`, () => {
  it.each([
    { dtype: "f32", headDim: 64, queryGroup: 1, firstPosition: 0, rowCount: 1 },
    { dtype: "f32", headDim: 3, queryGroup: 8, firstPosition: 63, rowCount: 7 },
    { dtype: "bf16", headDim: 128, queryGroup: 2, firstPosition: 0, rowCount: 130 },
    { dtype: "f16", headDim: 256, queryGroup: 3, firstPosition: 200, rowCount: 33 },
  ] as const)(
    "equals softmax in one piece: $dtype, $headDim x $queryGroup, $rowCount rows at $firstPosition",
    (shape) => {
      const { dtype, headDim, queryGroup, firstPosition, rowCount } = shape;
      const random = new Random(SEED);
      const tokens = firstPosition + rowCount;
      const { data, values } = storeAs(dtype, random.normals(tokens * 2 * headDim));
      // Three spans of uneven length, in arrays of their own; the last has tokens to spare.
      const cuts = [0, Math.floor(tokens / 7), Math.floor(tokens / 2), tokens];
      const spans = [0, 1, 2].map((i) => {
        const own = new (data.constructor as Float32ArrayConstructor)((cuts[i + 1]! - cuts[i]! + 1) * 2 * headDim + 5);
        own.set(data.subarray(cuts[i]! * 2 * headDim, cuts[i + 1]! * 2 * headDim), 5);
        return { data: own, offset: 5, tokens: cuts[i + 1]! - cuts[i]! + (i === 2 ? 1 : 0) };
      });
      const rowStride = queryGroup * headDim + 2;
      const q = { data: random.normals(1 + rowCount * rowStride), offset: 1, rowStride };
      const out = { data: new Float32Array(rowCount * rowStride).fill(7), offset: 0, rowStride };
      attendCausal({ spans, dtype, headDim, queryGroup, firstPosition, rowCount, q, out });
      for (let r = 0; r < rowCount; r++) {
        for (let head = 0; head < queryGroup; head++) {
          const at = r * rowStride + head * headDim;
          const own = q.data.subarray(1 + at, 1 + at + headDim);
          const expected = attentionOracle(values, headDim, own, firstPosition + r);
          // All in float64 but for the last rounding, of values of a few units.
          expectClose(`row ${r}, head ${head}`, out.data.subarray(at, at + headDim), expected, 5e-7);
        }
        expect(Array.from(out.data.subarray((r + 1) * rowStride - 2, (r + 1) * rowStride))).toEqual([7, 7]);
      }
    },
  );

  it("excludes keys that are not finite, and gives zeros where nothing is left", () => {
    const random = new Random(SEED);
    const headDim = 8;
    const data = random.normals(4 * 2 * headDim);
    data[0] = Number.NaN;
    data[2 * headDim + 1] = Number.POSITIVE_INFINITY;
    data.fill(Number.NaN, 3 * headDim, 4 * headDim); // the value of an excluded key
    const q = { data: random.normals(4 * headDim), offset: 0, rowStride: headDim };
    const out = { data: new Float32Array(4 * headDim).fill(7), offset: 0, rowStride: headDim };
    const spans = [{ data, offset: 0, tokens: 4 }];
    attendCausal({ spans, dtype: "f32", headDim, queryGroup: 1, firstPosition: 0, rowCount: 4, q, out });
    expect(Array.from(out.data.subarray(0, 2 * headDim))).toEqual(new Array(2 * headDim).fill(0));
    expect(out.data.subarray(2 * headDim, 3 * headDim)).toEqual(data.subarray(5 * headDim, 6 * headDim));
    const expected = attentionOracle(data, headDim, q.data.subarray(3 * headDim), 3);
    expectClose("row 3", out.data.subarray(3 * headDim), expected, 5e-7);
  });

  it("refuses spans that do not reach the last row, and wrong shapes", () => {
    const matrix = { data: new Float32Array(32), offset: 0, rowStride: 16 };
    const spans = [{ data: new Float32Array(3 * 16), offset: 0, tokens: 3 }];
    const args = {
      spans,
      dtype: "f32",
      headDim: 8,
      queryGroup: 2,
      firstPosition: 1,
      rowCount: 2,
      q: matrix,
      out: matrix,
    } as const;
    expect(() => attendCausal(args)).not.toThrow();
    expect(() => attendCausal({ ...args, firstPosition: 2 })).toThrow(
      "Expected spans to be 4 tokens in all but received 3.",
    );
    expect(() => attendCausal({ ...args, dtype: "bf16" })).toThrow("Expected spans[0].data");
    expect(() => attendCausal({ ...args, spans: [{ ...spans[0]!, tokens: 4 }] })).toThrow("Expected spans[0].data");
    expect(() => attendCausal({ ...args, queryGroup: 9 })).toThrow("Expected queryGroup to be an integer in 1..8");
    expect(() => attendCausal({ ...args, firstPosition: -1 })).toThrow("Expected firstPosition");
  });
});
