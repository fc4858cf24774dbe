import { describe, expect, it } from "vitest";
import {
  DECODED_WEIGHTS,
  decodeBfloat16,
  decodeFloat16,
  decodeWeight,
  encodeBfloat16,
  encodeFloat16,
  encodeWeight,
  fromBfloat16,
  fromFloat16,
  InvalidArgumentError,
  toBfloat16,
  toFloat16,
} from "../src/index.js";
import { Random } from "./random.js";

/** A half format by its definition: sign, `exponentBits`, `mantissaBits`. */
function definedValue(bits: number, exponentBits: number, mantissaBits: number): number {
  const sign = bits >>> 15 === 1 ? -1 : 1;
  const bias = 2 ** (exponentBits - 1) - 1;
  const exponent = (bits >>> mantissaBits) & (2 ** exponentBits - 1);
  const fraction = (bits & (2 ** mantissaBits - 1)) / 2 ** mantissaBits;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias);
  return sign * (1 + fraction) * 2 ** (exponent - bias);
}

const formats = [
  { name: "bfloat16", exponentBits: 8, mantissaBits: 7, to: toBfloat16, from: fromBfloat16 },
  { name: "float16", exponentBits: 5, mantissaBits: 10, to: toFloat16, from: fromFloat16 },
];

describe.each(formats)("$name", ({ exponentBits, mantissaBits, to, from }) => {
  const infinity = (2 ** exponentBits - 1) << mantissaBits;

  it("decodes all 65536 patterns by its definition and encodes them back", () => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = definedValue(bits, exponentBits, mantissaBits);
      if (!Object.is(from(bits), value)) expect.fail(`pattern ${bits}: ${from(bits)} instead of ${value}`);
      if (Number.isNaN(value)) {
        if (!Number.isNaN(from(to(from(bits))))) expect.fail(`pattern ${bits}: a NaN was lost`);
      } else if (to(value) !== bits) expect.fail(`pattern ${bits}: encoded as ${to(value)}`);
    }
  });

  it("rounds the midpoint of every two neighbours to the even one, and its sides to the nearer one", () => {
    for (let bits = 0; bits < infinity; bits++) {
      const lower = from(bits);
      const step = bits + 1 === infinity ? lower - from(bits - 1) : from(bits + 1) - lower;
      const middle = lower + step / 2;
      if (middle !== Math.fround(middle)) continue; // below the smallest f32
      const even = bits % 2 === 0 ? bits : bits + 1;
      if (to(middle) !== even) expect.fail(`above pattern ${bits}: the midpoint became ${to(middle)}`);
      if (to(-middle) !== (even | 0x8000)) expect.fail(`below pattern ${bits}: the midpoint became ${to(-middle)}`);
      const [less, more] = [Math.fround(middle * (1 - 2 ** -23)), Math.fround(middle * (1 + 2 ** -23))];
      if (less !== middle && to(less) !== bits) expect.fail(`above pattern ${bits}: ${less} became ${to(less)}`);
      if (more !== middle && to(more) !== bits + 1) expect.fail(`above pattern ${bits}: ${more} became ${to(more)}`);
    }
  });

  it("keeps infinities, zeros and NaN payloads that lie in the dropped bits", () => {
    expect(to(Number.POSITIVE_INFINITY)).toBe(infinity);
    expect(to(Number.NEGATIVE_INFINITY)).toBe(infinity | 0x8000);
    expect(to(3.4e38)).toBe(infinity);
    expect(to(-0)).toBe(0x8000);
    expect(to(2 ** -149)).toBe(0);
    const thinNaN = new Float32Array(Uint32Array.of(0x7f800001).buffer)[0]!;
    expect(from(to(thinNaN))).toBeNaN();
  });
});

describe("arrays of half floats (seed 3)", () => {
  const random = new Random(3);
  const words = Uint32Array.from({ length: 4096 }, () => random.word());
  const values = new Float32Array(words.buffer);
  const arrays = [
    { name: "bfloat16", encode: encodeBfloat16, decode: decodeBfloat16, to: toBfloat16, from: fromBfloat16 },
    { name: "float16", encode: encodeFloat16, decode: decodeFloat16, to: toFloat16, from: fromFloat16 },
  ];

  it.each(arrays)("$name equal the conversions one by one, also in views", ({ encode, decode, to, from }) => {
    const halves = new Uint16Array(values.length + 1).subarray(1);
    encode(values.subarray(1), halves);
    const back = new Float32Array(values.length + 1).subarray(1);
    decode(halves, back);
    for (let i = 0; i < values.length - 1; i++) {
      expect(halves[i]).toBe(to(values[i + 1]!));
      expect(back[i]).toBe(from(halves[i]!));
    }
  });

  it.each(arrays)("$name refuse a target that is too short", ({ encode, decode }) => {
    expect(() => encode(new Float32Array(2), new Uint16Array(1))).toThrow(InvalidArgumentError);
    expect(() => decode(new Uint16Array(2), new Float32Array(1))).toThrow(InvalidArgumentError);
  });
});

describe("weight bytes", () => {
  it("survive a round trip, ascend, and start at 0", () => {
    expect(decodeWeight(0)).toBe(0);
    for (let byte = 0; byte < 256; byte++) {
      expect(encodeWeight(decodeWeight(byte))).toBe(byte);
      expect(DECODED_WEIGHTS[byte]).toBe(decodeWeight(byte));
      if (byte > 0) expect(decodeWeight(byte)).toBeGreaterThan(decodeWeight(byte - 1));
    }
  });

  it("span 1.125 · 2^-16 to 61440", () => {
    expect(decodeWeight(1)).toBe(1.125 * 2 ** -16);
    expect(decodeWeight(255)).toBe(61440);
  });

  it("round to the nearest value, within one part in 16 (seed 5)", () => {
    const random = new Random(5);
    for (let draw = 0; draw < 20_000; draw++) {
      const weight = Math.fround(2 ** (31 * random.uniform() - 15.8));
      const byte = encodeWeight(weight);
      const error = Math.abs(decodeWeight(byte) - weight);
      expect(error / weight).toBeLessThanOrEqual(1 / 16);
      for (const neighbour of [byte - 1, byte + 1]) {
        if (neighbour < 256) expect(error).toBeLessThanOrEqual(Math.abs(decodeWeight(neighbour) - weight));
      }
    }
  });

  it("clamp what lies outside their range", () => {
    expect([0, 2 ** -149, 2 ** -17].map(encodeWeight)).toEqual([0, 0, 0]);
    expect([61440, 65536, 3.4e38, Number.POSITIVE_INFINITY].map(encodeWeight)).toEqual([255, 255, 255, 255]);
  });

  it("round a tie up", () => {
    expect(decodeWeight(encodeWeight((decodeWeight(128) + decodeWeight(129)) / 2))).toBe(decodeWeight(129));
  });
});
