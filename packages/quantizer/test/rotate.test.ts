import { describe, expect, it } from "vitest";
import { DEFAULT_SEED, InvalidArgumentError, rotate, rotationSigns, treeSum } from "../src/index.js";
import { dot, norm, rotateByMatrix } from "./oracles.js";
import { Random } from "./random.js";

/** The sign generator in exact integers. */
function signsInBigInt(headDim: number, seed: number): number[] {
  const mask = (1n << 32n) - 1n;
  return Array.from({ length: headDim }, (_, j) => {
    let h = (BigInt(seed) + BigInt(j + 1) * 0x9e3779b9n) & mask;
    h = ((h ^ (h >> 16n)) * 0x85ebca6bn) & mask;
    h = ((h ^ (h >> 13n)) * 0xc2b2ae35n) & mask;
    h ^= h >> 16n;
    return h >> 31n === 1n ? -1 : 1;
  });
}

describe("rotation signs", () => {
  it.each([0, 1, DEFAULT_SEED, 0x7fffffff, 0xffffffff])("of seed %i equal the generator in exact integers", (seed) => {
    expect(Array.from(rotationSigns(256, seed))).toEqual(signsInBigInt(256, seed));
  });

  it("are the recorded ones for the default seed", () => {
    const word = rotationSigns(32, DEFAULT_SEED).reduce((bits, sign, j) => bits + (sign < 0 ? 2 ** j : 0), 0);
    expect(word).toBe(1_298_356_506);
  });

  it("are balanced over seeds", () => {
    // 256 000 fair signs: the sum has a standard deviation of 506; four of them.
    let total = 0;
    for (let seed = 0; seed < 1000; seed++) total += rotationSigns(256, seed).reduce((sum, sign) => sum + sign, 0);
    expect(Math.abs(total)).toBeLessThan(4 * Math.sqrt(256_000));
  });

  it.each([-1, 2 ** 32, 0.5, Number.NaN])("refuse the seed %s", (seed) => {
    expect(() => rotationSigns(64, seed)).toThrow(InvalidArgumentError);
  });

  it("refuse a dimension of 0", () => {
    expect(() => rotationSigns(0, 1)).toThrow(InvalidArgumentError);
  });
});

describe.each([64, 128, 256])("rotate with head dimension %i (seed 11)", (headDim) => {
  const random = new Random(11);
  const signs = rotationSigns(headDim, random.word());
  const a = random.normals(headDim);
  const b = random.normals(headDim);
  const rotated = (vector: Float32Array): Float32Array => {
    const result = new Float32Array(headDim);
    rotate(vector, 0, signs, result, 0);
    return result;
  };
  // log2(d) + 2 roundings of at most 2^-24 each, relative to the norm.
  const tolerance = (Math.log2(headDim) + 2) * 2 ** -24;

  it("equals the product with the Hadamard matrix", () => {
    const exact = rotateByMatrix(a, signs);
    const error = norm(rotated(a).map((value, i) => value - exact[i]!));
    expect(error).toBeLessThan(tolerance * norm(a));
  });

  it("preserves norms and inner products", () => {
    expect(Math.abs(norm(rotated(a)) / norm(a) - 1)).toBeLessThan(tolerance);
    const difference = dot(rotated(a), rotated(b)) - dot(a, b);
    expect(Math.abs(difference)).toBeLessThan(2 * tolerance * norm(a) * norm(b));
  });

  it("works in place and at offsets", () => {
    const buffer = new Float32Array(headDim + 10).fill(7);
    buffer.set(a, 5);
    rotate(buffer, 5, signs, buffer, 5);
    expect(buffer.subarray(5, 5 + headDim)).toEqual(rotated(a));
    expect(Array.from(buffer.subarray(0, 5))).toEqual([7, 7, 7, 7, 7]);
    expect(Array.from(buffer.subarray(5 + headDim))).toEqual([7, 7, 7, 7, 7]);
  });

  it("rounds every operation to f32 in the specified order", () => {
    const y = Array.from(a, (x, j) => Math.fround(signs[j]! * x));
    for (let h = 1; h < headDim; h *= 2) {
      for (let i = 0; i < headDim; i++) {
        if ((i & h) !== 0) continue;
        [y[i], y[i + h]] = [Math.fround(y[i]! + y[i + h]!), Math.fround(y[i]! - y[i + h]!)];
      }
    }
    const scale = Math.fround(1 / Math.sqrt(headDim));
    expect(Array.from(rotated(a))).toEqual(y.map((value) => Math.fround(value * scale)));
  });
});

describe("treeSum", () => {
  it("adds halves element by element in f32", () => {
    const f = Math.fround;
    const [a, b, c, d] = [2 ** 25, 1, -(2 ** 25), 1];
    expect(treeSum(Float32Array.of(9, a, b, c, d), 1, 4)).toBe(f(f(a + c) + f(b + d)));
    expect(f(f(f(a + b) + c) + d)).toBe(1); // one after another would be another sum
  });

  it("of one value is the value", () => {
    expect(treeSum(Float32Array.of(1, 2, 3), 1, 1)).toBe(2);
  });
});
