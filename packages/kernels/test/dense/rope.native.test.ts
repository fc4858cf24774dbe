import { it } from "vitest";
import { ropeFrequencies } from "../../src/dense/index.js";
import { describeDevices } from "../support/devices.js";
import { expectClose } from "../support/expect-step.js";
import { Random } from "../support/random.js";
import { upload } from "../support/scene.js";
import { ropeOracle } from "./oracle.js";

describeDevices("rope", (device) => {
  it.each([2, 6, 64, 128, 130, 256])("turns heads of %i at positions from 0 to a million and beyond", (headDim) => {
    using context = device.open();
    const random = new Random(59);
    const heads = 3;
    const frequencies = ropeFrequencies({ headDim, theta: 1e6 });
    const special = [0, 1, 4095, 65_535, 1_000_000, 16_777_217];
    const rows = Array.from({ length: 33 }, (_, r) => ({
      slot: r % 5 === 4 ? -1 : r % 3,
      position: special[r] ?? random.below(1_048_576),
    }));
    const rowStride = heads * headDim + 1;
    const before = random.normals(rows.length * rowStride);
    const buffer = upload(context, before);
    const table = upload(context, Int32Array.from(rows.flatMap(({ slot, position }) => [slot, position])));
    context.rope({
      x: { buffer, rowStride },
      heads,
      headDim,
      frequencies: { buffer: upload(context, frequencies) },
      step: { table: { buffer: table }, rowCount: rows.length },
    });
    const expected = Float64Array.from(before);
    for (const [r, { slot, position }] of rows.entries()) {
      for (let head = 0; head < heads && slot >= 0; head++) {
        const at = r * rowStride + head * headDim;
        expected.set(ropeOracle(before.subarray(at, at + headDim), position, frequencies), at);
      }
    }
    const actual = new Float32Array(before.length);
    buffer.read(0, actual);
    // Four roundings to f32 of values below 8; an angle that were itself f32 would be off by 0.03 at a million.
    expectClose("rope", actual, expected, 2e-6);
  });
});
