import { expect, it } from "vitest";
import { describeDevices } from "../support/devices.js";
import { expectSameBits } from "../support/expect-step.js";
import { Random } from "../support/random.js";
import { upload } from "../support/scene.js";
import { DTYPES, linearOracle, storeAs } from "./oracle.js";

/** Rows that few-row kernels take, and others; widths on both sides of every vector, tile and block. */
const SHAPES = [
  { rowCount: 1, inWidth: 1, outWidth: 1 },
  { rowCount: 1, inWidth: 3, outWidth: 17 },
  { rowCount: 1, inWidth: 2100, outWidth: 255 },
  { rowCount: 2, inWidth: 255, outWidth: 3 },
  { rowCount: 7, inWidth: 17, outWidth: 6 },
  { rowCount: 8, inWidth: 1025, outWidth: 13 },
  { rowCount: 9, inWidth: 1024, outWidth: 7 },
  { rowCount: 33, inWidth: 255, outWidth: 255 },
  { rowCount: 300, inWidth: 1030, outWidth: 9 },
  { rowCount: 512, inWidth: 17, outWidth: 40 },
];

describeDevices("linear", (device) => {
  for (const dtype of DTYPES) {
    it.each(SHAPES)(`multiplies $rowCount rows of $inWidth with $outWidth rows of ${dtype} weights`, (shape) => {
      using context = device.open();
      const { rowCount, inWidth, outWidth } = shape;
      const random = new Random(56);
      const { data, values: weight } = storeAs(dtype, random.normals(outWidth * inWidth));
      const [xStride, outStride] = [inWidth + 1, outWidth + 2];
      const x = random.normals(rowCount * xStride);
      const bias = random.normals(outWidth);
      const older = random.normals(rowCount * outStride);
      const common = {
        x: { buffer: upload(context, x), rowStride: xStride },
        weight: { buffer: upload(context, data) },
        dtype,
        inWidth,
        outWidth,
        rowCount,
      };
      for (const [biased, accumulate] of [
        [false, false],
        [true, false],
        [true, true],
      ] as const) {
        const out = upload(context, older);
        context.linear({
          ...common,
          ...(biased ? { bias: { buffer: upload(context, bias) } } : {}),
          accumulate,
          out: { buffer: out, rowStride: outStride },
        });
        const actual = new Float32Array(older.length);
        out.read(0, actual);
        const oracle = linearOracle({
          x,
          xStride,
          weight,
          bias: biased ? bias : undefined,
          older: accumulate ? older : undefined,
          inWidth,
          outWidth,
          outStride,
          rowCount,
        });
        for (const { at, value, magnitude } of oracle) {
          // f32 sums in lanes: at most some 70 roundings of a 16th of the sum, then a few of all of it.
          if (Math.abs(actual[at]! - value) > 1e-6 * magnitude) {
            expect.fail(`element ${at} is ${actual[at]}, expected ${value} within ${1e-6 * magnitude}`);
          }
          actual[at] = older[at]!;
        }
        expectSameBits("what lies beside the result", actual, older);
      }
    });
  }

  it("gives the same bits with other threads, and a row the same bits alone and in a batch", (ctx) => {
    ctx.skip(device.name === "cuda", "on CUDA a row may depend on the batch, within the tolerance above");
    const random = new Random(57);
    const [inWidth, outWidth, rows] = [1100, 29, 70];
    const { data } = storeAs("bf16", random.normals(outWidth * inWidth));
    const x = random.normals(rows * inWidth);
    const run = (threads: number, rowsAtOnce: number): Float32Array => {
      using context = device.open({ threads });
      const buffer = upload(context, x);
      const weight = { buffer: upload(context, data) };
      const out = upload(context, new Float32Array(rows * outWidth));
      for (let first = 0; first < rows; first += rowsAtOnce) {
        context.linear({
          x: { buffer, offsetBytes: 4 * first * inWidth, rowStride: inWidth },
          weight,
          dtype: "bf16",
          inWidth,
          outWidth,
          rowCount: Math.min(rowsAtOnce, rows - first),
          out: { buffer: out, offsetBytes: 4 * first * outWidth, rowStride: outWidth },
        });
      }
      const result = new Float32Array(rows * outWidth);
      out.read(0, result);
      return result;
    };
    const alone = run(1, 1);
    for (const [threads, rowsAtOnce] of [
      [2, 1],
      [1, 3],
      [2, 8],
      [1, 9],
      [2, 40],
      [3, 70],
    ] as const) {
      expectSameBits(`${threads} threads, ${rowsAtOnce} rows at once`, run(threads, rowsAtOnce), alone);
    }
  });
});
