import { it } from "vitest";
import { describeDevices } from "../support/devices.js";
import { expectSameBits } from "../support/expect-step.js";
import { Random } from "../support/random.js";
import { upload } from "../support/scene.js";
import { DTYPES, storeAs } from "./oracle.js";

describeDevices("embed", (device) => {
  it.each(DTYPES)("copies rows of %s weights and gives zeros for tokens outside the vocabulary", (dtype) => {
    using context = device.open();
    const random = new Random(52);
    for (const width of [1, 3, 17, 255, 1024]) {
      const vocab = 40;
      const { data, values } = storeAs(dtype, random.normals(vocab * width));
      const rowCount = 37;
      const tokens = Int32Array.from({ length: rowCount }, () => random.below(vocab));
      tokens.set([-1, vocab, 2 ** 31 - 1, -(2 ** 31), vocab - 1]);
      const rowStride = width + 2;
      const older = random.normals(rowCount * rowStride);
      const out = upload(context, older);
      const weight = { buffer: upload(context, data) };
      context.embed({
        tokens: { buffer: upload(context, tokens) },
        weight,
        dtype,
        vocab,
        width,
        rowCount,
        out: { buffer: out, rowStride },
      });
      const expected = older.slice();
      for (const [r, token] of tokens.entries()) {
        for (let c = 0; c < width; c++) {
          expected[r * rowStride + c] = token >= 0 && token < vocab ? values[token * width + c]! : 0;
        }
      }
      const actual = new Float32Array(older.length);
      out.read(0, actual);
      expectSameBits("embed", actual, expected);
    }
  });
});
