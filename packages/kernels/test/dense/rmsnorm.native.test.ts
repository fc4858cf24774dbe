import { expect, it } from "vitest";
import { describeDevices } from "../support/devices.js";
import { expectClose } from "../support/expect-step.js";
import { Random } from "../support/random.js";
import { upload } from "../support/scene.js";
import { rmsnormOracle } from "./oracle.js";

const EPS = 1e-5;

describeDevices("rmsnorm", (device) => {
  it.each([
    { width: 1, groups: 1, rowCount: 7 },
    { width: 3, groups: 2, rowCount: 33 },
    { width: 17, groups: 1, rowCount: 2 },
    { width: 128, groups: 4, rowCount: 33 },
    { width: 255, groups: 1, rowCount: 512 },
    { width: 4096, groups: 1, rowCount: 1 },
  ])("normalises $rowCount rows of $groups groups of $width, in place and elsewhere", ({ width, groups, rowCount }) => {
    using context = device.open();
    const random = new Random(54);
    const rowStride = groups * width + 3;
    const x = random.normals(rowCount * rowStride);
    x.fill(0, 0, width);
    const weight = random.normals(width);
    const from = upload(context, x);
    const elsewhere = upload(context, x);
    const args = { weight: { buffer: upload(context, weight) }, eps: EPS, width, groups, rowCount };
    context.rmsnorm({ ...args, x: { buffer: from, rowStride }, out: { buffer: elsewhere, rowStride } });
    context.rmsnorm({ ...args, x: { buffer: from, rowStride }, out: { buffer: from, rowStride } });
    const expected = Float64Array.from(x);
    for (let r = 0; r < rowCount; r++) {
      for (let group = 0; group < groups; group++) {
        const at = r * rowStride + group * width;
        expected.set(rmsnormOracle(x.subarray(at, at + width), weight, EPS), at);
      }
    }
    // Results are of a few units at most; a sum of squares in sixteen f32 lanes errs by less than 1e-6 of itself.
    for (const buffer of [elsewhere, from]) {
      const actual = new Float32Array(x.length);
      buffer.read(0, actual);
      expectClose("rmsnorm", actual, expected, 1e-5);
      expect(
        actual.subarray(0, width).every((value) => value === 0),
        "zeros stay zeros",
      ).toBe(true);
    }
  });
});
