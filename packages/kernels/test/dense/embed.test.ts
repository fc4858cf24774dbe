import { describe, expect, it } from "vitest";
import { embed } from "../../src/dense/index.js";
import { Random } from "../support/random.js";
import { DTYPES, storeAs } from "./oracle.js";

const SEED = 51;

describe(`embed, seed ${SEED}`, () => {
  it.each(DTYPES)("copies rows of %s weights and gives zeros for tokens outside the vocabulary", (dtype) => {
    const random = new Random(SEED);
    for (const width of [1, 3, 17, 255]) {
      const vocab = 9;
      const { data, values } = storeAs(dtype, random.normals(2 + vocab * width));
      const tokens = Int32Array.of(0, vocab - 1, -1, vocab, 2 ** 31 - 1, 4, 4);
      const out = { data: random.normals(tokens.length * (width + 2)), offset: 1, rowStride: width + 2 };
      const expected = out.data.slice();
      for (const [r, token] of tokens.entries()) {
        for (let c = 0; c < width; c++) {
          const inside = token >= 0 && token < vocab;
          expected[1 + r * (width + 2) + c] = inside ? values[2 + token * width + c]! : 0;
        }
      }
      embed({ tokens, weight: { data, dtype, offset: 2 }, vocab, width, rowCount: tokens.length, out });
      expect(out.data).toEqual(expected);
    }
  });

  it("reads every half precision number: subnormal, infinite, negative zero", () => {
    const data = Uint16Array.of(0x0001, 0x8001, 0x03ff, 0x0400, 0x7bff, 0x7c00, 0xfc00, 0x8000);
    const out = { data: new Float32Array(8), offset: 0, rowStride: 8 };
    const weight = { data, dtype: "f16", offset: 0 } as const;
    embed({ tokens: Int32Array.of(0), weight, vocab: 1, width: 8, rowCount: 1, out });
    const infinity = Number.POSITIVE_INFINITY;
    expect(Array.from(out.data)).toEqual([
      2 ** -24,
      -(2 ** -24),
      1023 * 2 ** -24,
      2 ** -14,
      65504,
      infinity,
      -infinity,
      -0,
    ]);
  });

  it("refuses arrays of the wrong type or length", () => {
    const out = { data: new Float32Array(4), offset: 0, rowStride: 4 };
    const args = { tokens: Int32Array.of(0), vocab: 2, width: 4, rowCount: 1, out };
    const halves = { data: new Uint16Array(8), offset: 0 };
    expect(() => embed({ ...args, weight: { ...halves, dtype: "f32" } })).toThrow(
      "Expected weight.data to be a Float32Array for dtype f32",
    );
    expect(() => embed({ ...args, weight: { ...halves, dtype: "bf16", offset: 1 } })).toThrow(
      "Expected weight.data to be at least 9 elements long",
    );
    expect(() => embed({ ...args, weight: { ...halves, dtype: "int8" as "bf16" } })).toThrow("Expected weight.dtype");
    expect(() => embed({ ...args, weight: { ...halves, dtype: "bf16" }, rowCount: 2 })).toThrow("Expected tokens");
    expect(() => embed({ ...args, weight: { ...halves, dtype: "bf16" }, rowCount: 0 })).toThrow("Expected rowCount");
  });
});
