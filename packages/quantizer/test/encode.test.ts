import { describe, expect, it } from "vitest";
import {
  CENTROIDS,
  createQuantizer,
  encodeKey,
  encodePage,
  encodeWeight,
  errorBound,
  findCalibration,
  InvalidArgumentError,
  noCalibration,
  PAGE_TOKENS,
  type Quantizer,
  summarizeKeys,
  summaryLayout,
  treeSum,
  UnsupportedError,
} from "../src/index.js";
import { norm, rotateByMatrix } from "./oracles.js";
import { Random } from "./random.js";

/** Section 2 of the algorithm in f64: ids, codes, and weights before their rounding to a byte. */
function encodeByDefinition(quantizer: Quantizer, key: ArrayLike<number>) {
  const { subspaceDim, subspaces, magnitudeBits, signs, levels } = quantizer;
  const length = norm(key);
  const rotated = rotateByMatrix(key, signs).map((value) => value / length);
  const codes: number[] = [];
  const ids: number[] = [];
  const weights: number[] = [];
  for (let b = 0; b < subspaces; b++) {
    const block = rotated.slice(b * subspaceDim, (b + 1) * subspaceDim);
    const blockLength = norm(block);
    let alignment = 0;
    ids.push(block.reduce((id, x, j) => id + (x >= 0 ? 2 ** j : 0), 0));
    for (const x of block) {
      const u = Math.abs(x) / blockLength;
      const level = levels.thresholds.filter((threshold) => threshold <= u).length;
      alignment += levels.centers[level]! * u;
      codes.push(level + (x >= 0 ? 2 ** magnitudeBits : 0));
    }
    weights.push((length * blockLength) / alignment);
  }
  return { codes, ids, weights };
}

const shapes = [64, 128, 256].flatMap((headDim) =>
  [4, 8].flatMap((subspaceDim) => [2, 3, 4].map((magnitudeBits) => ({ headDim, subspaceDim, magnitudeBits }))),
);

describe.each(shapes)("encodeKey, d = $headDim, m = $subspaceDim, $magnitudeBits bits (seed 21)", (shape) => {
  const quantizer = createQuantizer({ ...shape, seed: 21 });
  const calibration = noCalibration(shape.headDim);

  it("equals the definition in f64 wherever no decision is at a border", () => {
    const random = new Random(21);
    let compared = 0;
    for (let draw = 0; draw < 20; draw++) {
      const key = random.normals(shape.headDim).map((value) => value * 10 ** (draw % 5));
      const encoded = encodeKey(quantizer, calibration, key, 0);
      expect(encoded.valid).toBe(true);
      expect(Math.abs(encoded.norm / norm(key) - 1)).toBeLessThan(1e-6);
      if (encoded.boundaryDistance < 2e-6) continue;
      compared += 1;
      const exact = encodeByDefinition(quantizer, key);
      expect(Array.from(encoded.ids)).toEqual(exact.ids);
      expect(Array.from(encoded.codes)).toEqual(exact.codes);
      encoded.weights.forEach((byte, b) => {
        const weight = exact.weights[b]!;
        expect([encodeWeight(weight * (1 - 1e-5)), encodeWeight(weight * (1 + 1e-5))]).toContain(byte);
      });
    }
    expect(compared).toBeGreaterThan(10);
  });
});

describe("encodeKey", () => {
  const quantizer = createQuantizer({ headDim: 64 });
  const calibration = noCalibration(64);
  const random = new Random(22);

  it("turns an id into the sign bits of the codes", () => {
    const { ids, codes } = encodeKey(quantizer, calibration, random.normals(64), 0);
    codes.forEach((code, j) => {
      expect(code >>> 3).toBe((ids[j >>> 3]! >>> (j & 7)) & 1);
    });
  });

  it("ignores the length of the key but for its weights", () => {
    const key = random.normals(64);
    const once = encodeKey(quantizer, calibration, key, 0);
    // A power of two changes no rounding; a weight byte has 8 steps an octave.
    const fourTimes = encodeKey(
      quantizer,
      calibration,
      key.map((value) => value * 4),
      0,
    );
    expect(fourTimes.codes).toEqual(once.codes);
    expect(fourTimes.weights).toEqual(once.weights.map((byte) => byte + 16));
  });

  it.each([
    [61_993, 41, 3],
    [125_002, 59, 1],
    [160_610, 5, 3],
  ])("puts a coordinate on a threshold above it (seed %i, coordinate %i)", (seed, coordinate, threshold) => {
    const { direction, codes } = encodeKey(quantizer, calibration, new Random(seed).normals(64), 0);
    const start = coordinate - (coordinate % 8);
    const squares = direction.slice(start, start + 8).map((x) => x * x);
    const length = Math.fround(Math.sqrt(treeSum(squares, 0, 8)));
    const u = Math.fround(Math.abs(direction[coordinate]!) / length);
    expect(u).toBe(quantizer.levels.thresholdsFloat32[threshold]);
    expect(codes[coordinate]! & 7).toBe(threshold + 1);
  });

  it("encodes the calibrated key", () => {
    const keys = random.normals(64 * 50).map((value, i) => (i % 64) + value * (1 + (i % 7)));
    const queries = random.normals(64 * 50);
    const found = findCalibration({
      mode: "balance",
      headDim: 64,
      keys,
      keyCount: 50,
      queries,
      queryCount: 50,
    });
    const byHand = keys
      .slice(64, 128)
      .map((value, j) => Math.fround(Math.fround(value - found.center[j]!) / found.balance[j]!));
    expect(encodeKey(quantizer, found, keys, 64)).toEqual(encodeKey(quantizer, calibration, byHand, 0));
  });

  it("gives a key along one subspace its whole weight there", () => {
    // The rotation of this key is the first unit vector: H is its own inverse.
    const key = Float32Array.from(quantizer.signs, (sign) => sign / 8);
    const { ids, weights, codes, direction } = encodeKey(quantizer, calibration, key, 0);
    expect(Array.from(direction)).toEqual([1, ...new Array(63).fill(0)]);
    expect(Array.from(ids)).toEqual(new Array(8).fill(255));
    expect(Array.from(codes)).toEqual([15, ...new Array(63).fill(8)]);
    const best = quantizer.levels.centers[7]!;
    expect(Array.from(weights)).toEqual([encodeWeight(1 / best), 0, 0, 0, 0, 0, 0, 0]);
  });

  it.each([
    ["zero", 0],
    ["negative zero", -0],
    ["not a number", Number.NaN],
    ["infinite", Number.POSITIVE_INFINITY],
    ["negative infinite", Number.NEGATIVE_INFINITY],
    ["so large that its square overflows", 3e38],
    ["so small that its square vanishes", 1e-30],
  ])("calls a key invalid when an element is %s and the others are zero", (_, value) => {
    const key = new Float32Array(64);
    key[5] = value;
    const encoded = encodeKey(quantizer, calibration, key, 0);
    expect(encoded.valid).toBe(false);
    expect(encoded.norm).toBe(0);
    for (const array of [encoded.ids, encoded.codes, encoded.weights, encoded.direction]) {
      expect(array.every((element) => element === 0)).toBe(true);
    }
    expect(errorBound(quantizer, calibration, key, 0, encoded)).toBe(Number.POSITIVE_INFINITY);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])("calls a key invalid for a single element of %s", (value) => {
    const key = random.normals(64);
    key[63] = value;
    expect(encodeKey(quantizer, calibration, key, 0).valid).toBe(false);
  });

  it("encodes subnormal, huge and one-hot keys", () => {
    for (const scale of [2e-22, 1e-18, 1e17]) {
      const encoded = encodeKey(quantizer, calibration, new Float32Array(64).fill(scale), 0);
      expect(encoded.valid).toBe(true);
      expect(encoded.codes.some((code) => (code & 7) !== 0)).toBe(true);
    }
  });

  it("refuses a key that ends behind the array", () => {
    expect(() => encodeKey(quantizer, calibration, new Float32Array(64), 1)).toThrow(InvalidArgumentError);
  });
});

describe("createQuantizer", () => {
  it.each([
    { headDim: 96 },
    { headDim: 0 },
    { headDim: 64, subspaceDim: 5 },
    { headDim: 64, magnitudeBits: 1 },
    { headDim: 64, seed: -1 },
  ])("refuses %o", (options) => {
    expect(() => createQuantizer(options)).toThrow(InvalidArgumentError);
  });
});

describe.each([64, 128, 256])("encodePage with head dimension %i (seed 23)", (headDim) => {
  const quantizer = createQuantizer({ headDim });
  const calibration = noCalibration(headDim);
  const layout = summaryLayout(headDim);
  const { subspaces } = quantizer;
  const keys = new Random(23).normals(PAGE_TOKENS * headDim);
  keys.fill(0, 7 * headDim, 8 * headDim);
  keys[500 * headDim] = Number.NaN;
  const invalid = [7, 500];

  it("writes every key's planes, counts ids and invalid keys", () => {
    const page = new Uint8Array(layout.headPageBytes).fill(99);
    const idCounts = new Uint32Array(subspaces * CENTROIDS);
    const invalidKeys = encodePage(quantizer, calibration, keys, 0, headDim, PAGE_TOKENS, page, idCounts);
    expect(invalidKeys).toBe(invalid.length);
    const expected = new Uint8Array(layout.headPageBytes);
    const counted = new Uint32Array(subspaces * CENTROIDS);
    const words = new DataView(expected.buffer);
    for (let slot = 0; slot < PAGE_TOKENS; slot++) {
      const { valid, ids, codes, weights } = encodeKey(quantizer, calibration, keys, slot * headDim);
      expect(valid).toBe(!invalid.includes(slot));
      for (let b = 0; b < subspaces; b++) {
        expected[layout.idsOffsetBytes + b * PAGE_TOKENS + slot] = ids[b]!;
        expected[layout.weightsOffsetBytes + slot * subspaces + b] = weights[b]!;
        if (valid) counted[b * CENTROIDS + ids[b]!]! += 1;
        // One little-endian word is one subspace, coordinate 0 in its lowest nibble.
        const word = codes.subarray(8 * b, 8 * b + 8).reduce((sum, code, j) => sum + code * 16 ** j, 0);
        words.setUint32(layout.codesOffsetBytes + slot * (headDim / 2) + b * 4, word, true);
      }
    }
    expect(page).toEqual(expected);
    expect(idCounts).toEqual(counted);
  });

  it("reads keys out of records", () => {
    const records = new Float32Array(PAGE_TOKENS * 2 * headDim).fill(5);
    for (let slot = 0; slot < PAGE_TOKENS; slot++) {
      records.set(keys.subarray(slot * headDim, (slot + 1) * headDim), 2 * slot * headDim);
    }
    const [fromKeys, fromRecords] = [new Uint8Array(layout.headPageBytes), new Uint8Array(layout.headPageBytes)];
    const counts = new Uint32Array(subspaces * CENTROIDS);
    encodePage(quantizer, calibration, keys, 0, headDim, PAGE_TOKENS, fromKeys, counts);
    encodePage(quantizer, calibration, records, 0, 2 * headDim, PAGE_TOKENS, fromRecords, counts);
    expect(fromRecords).toEqual(fromKeys);
    // Counts are added to: two equal pages.
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(2 * subspaces * (PAGE_TOKENS - invalid.length));
    expect(counts.every((count) => count % 2 === 0)).toBe(true);
  });

  it("leaves the slots of a partial page zero, and counts none of them", () => {
    const page = new Uint8Array(layout.headPageBytes).fill(99);
    const counts = new Uint32Array(subspaces * CENTROIDS);
    expect(encodePage(quantizer, calibration, keys, 0, headDim, 1, page, counts)).toBe(0);
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(subspaces);
    for (let slot = 1; slot < PAGE_TOKENS; slot++) expect(page[layout.idsOffsetBytes + slot]).toBe(0);
    expect(encodePage(quantizer, calibration, new Float32Array(0), 0, headDim, 0, page, counts)).toBe(0);
    expect(page.every((byte) => byte === 0)).toBe(true);
  });

  it("refuses arrays that are too short and token counts beyond a page", () => {
    const page = new Uint8Array(layout.headPageBytes);
    const counts = new Uint32Array(subspaces * CENTROIDS);
    const encode = (tokens: number, keyCount: number, pageBytes: number, countLength: number) => () =>
      encodePage(
        quantizer,
        calibration,
        keys.subarray(0, keyCount * headDim),
        0,
        headDim,
        tokens,
        page.subarray(0, pageBytes),
        counts.subarray(0, countLength),
      );
    expect(encode(2, 2, page.length, counts.length)).not.toThrow();
    expect(encode(2, 1, page.length, counts.length)).toThrow(InvalidArgumentError);
    expect(encode(2, 2, page.length - 1, counts.length)).toThrow(InvalidArgumentError);
    expect(encode(2, 2, page.length, counts.length - 1)).toThrow(InvalidArgumentError);
    expect(encode(PAGE_TOKENS + 1, PAGE_TOKENS, page.length, counts.length)).toThrow(InvalidArgumentError);
    expect(encode(-1, 2, page.length, counts.length)).toThrow(InvalidArgumentError);
  });
});

describe("summaries", () => {
  it("of another format than the native one are refused", () => {
    const quantizer = createQuantizer({ headDim: 64, subspaceDim: 4 });
    const keys = new Float32Array(64);
    expect(() => summarizeKeys({ quantizer, keys, tokens: 1 })).toThrow(UnsupportedError);
  });

  it("split keys into pages that do not depend on each other (seed 24)", () => {
    const quantizer = createQuantizer({ headDim: 64 });
    const keys = new Random(24).normals(1100 * 64);
    const all = summarizeKeys({ quantizer, keys, tokens: 1100 });
    expect(all.pages.length).toBe(3);
    expect(all.invalidKeys).toEqual([0, 0, 0]);
    const second = summarizeKeys({ quantizer, keys: keys.subarray(512 * 64), tokens: 512 });
    expect(second.pages[0]).toEqual(all.pages[1]);
  });

  it("refuse fewer keys than tokens", () => {
    const quantizer = createQuantizer({ headDim: 64 });
    expect(() => summarizeKeys({ quantizer, keys: new Float32Array(64), tokens: 2 })).toThrow(InvalidArgumentError);
  });
});
