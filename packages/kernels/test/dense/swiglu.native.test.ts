import { expect, it } from "vitest";
import { describeDevices } from "../support/devices.js";
import { expectClose } from "../support/expect-step.js";
import { Random } from "../support/random.js";
import { upload } from "../support/scene.js";
import { swigluOracle } from "./oracle.js";

describeDevices("swiglu", (device) => {
  it.each([
    { width: 1, rowCount: 1 },
    { width: 3, rowCount: 7 },
    { width: 17, rowCount: 2 },
    { width: 255, rowCount: 33 },
    { width: 48, rowCount: 512 },
  ])("gates $rowCount rows of $width", ({ width, rowCount }) => {
    using context = device.open();
    const random = new Random(61);
    const rowStride = 2 * width + 1;
    const x = random.normals(rowCount * rowStride).map((value) => 12 * value);
    const out = upload(context, new Float32Array(rowCount * width));
    context.swiglu({
      x: { buffer: upload(context, x), rowStride },
      width,
      rowCount,
      out: { buffer: out, rowStride: width },
    });
    const actual = new Float32Array(rowCount * width);
    out.read(0, actual);
    const expected = Float64Array.from(actual, (_, i) => {
      const at = Math.floor(i / width) * rowStride + (i % width);
      return swigluOracle(x[at]!, x[at + width]!);
    });
    // exp to 1.5e-7, then an addition, a division and a product in f32.
    expectClose(
      "swiglu",
      actual,
      expected,
      expected.map((value) => 1e-6 * Math.abs(value)),
    );
  });

  it("goes to zero and to the gate at the ends, and keeps NaN to itself", () => {
    using context = device.open();
    const gates = [-1e30, -300, -89, 1e30, 0, Number.NaN, 1];
    const x = Float32Array.from([...gates, ...gates.map(() => 2)]);
    const out = upload(context, new Float32Array(gates.length));
    const rowStride = x.length;
    const width = gates.length;
    context.swiglu({
      x: { buffer: upload(context, x), rowStride },
      width,
      rowCount: 1,
      out: { buffer: out, rowStride: width },
    });
    const actual = new Float32Array(width);
    out.read(0, actual);
    // Kernels may bound the exponent at 88: -1e30 / exp(88) * 2 is -1.2e-8, the limit is 0.
    for (const i of [0, 1, 2]) expect(Math.abs(actual[i]!)).toBeLessThan(2e-8);
    expect(Array.from(actual.subarray(3, 6))).toEqual([Math.fround(2e30), 0, Number.NaN]);
    expect(actual[6]).toBeCloseTo(2 / (1 + Math.exp(-1)), 6);
  });
});
