import { expect, it } from "vitest";
import { describeDevices } from "../support/devices.js";
import { Random } from "../support/random.js";
import { upload } from "../support/scene.js";
import { argmaxOracle } from "./oracle.js";

describeDevices("argmax", (device) => {
  it.each([1, 3, 16, 17, 255, 4096])("finds the largest of %i, ties to the smaller index, and never NaN", (width) => {
    using context = device.open();
    const random = new Random(63);
    const [nan, low] = [Number.NaN, Number.NEGATIVE_INFINITY];
    const rows = Array.from({ length: 33 }, () =>
      // Few different numbers, so that there are ties.
      random.normals(width).map((value) => (random.below(4) === 0 ? nan : Math.round(2 * value))),
    );
    rows.push(new Float32Array(width).fill(nan), new Float32Array(width).fill(low), new Float32Array(width).fill(-0));
    rows.push(
      new Float32Array(width).fill(nan).fill(low, width - 1),
      new Float32Array(width).fill(-1).fill(0, width - 1),
    );
    const rowStride = width + 2;
    const x = new Float32Array(rows.length * rowStride).fill(1e9);
    for (const [r, row] of rows.entries()) x.set(row, r * rowStride);
    const out = upload(context, new Int32Array(rows.length).fill(-7));
    context.argmax({
      x: { buffer: upload(context, x), rowStride },
      width,
      rowCount: rows.length,
      out: { buffer: out },
    });
    const actual = new Int32Array(rows.length);
    out.read(0, actual);
    expect(Array.from(actual)).toEqual(rows.map(argmaxOracle));
  });
});
