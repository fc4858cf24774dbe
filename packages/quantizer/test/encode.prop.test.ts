import { describe, expect, it } from "vitest";
import {
  createQuantizer,
  decodeWeight,
  encodeKey,
  errorBound,
  estimate,
  findCalibration,
  noCalibration,
  type Quantizer,
  rotate,
  summarizeKeys,
} from "../src/index.js";
import { dot, norm, rotateByMatrix } from "./oracles.js";
import { Random } from "./random.js";

/** Estimates of all keys for one query, through the native page format. */
function estimateAll(quantizer: Quantizer, keys: Float32Array, keyCount: number, query: Float32Array): Float32Array {
  const { pages } = summarizeKeys({ quantizer, keys, tokens: keyCount });
  const rotated = new Float32Array(quantizer.headDim);
  rotate(query, 0, quantizer.signs, rotated, 0);
  const estimates = new Float32Array(keyCount);
  estimate(quantizer, pages, Uint32Array.from(estimates.keys()), keyCount, rotated, 1, estimates);
  return estimates;
}

describe("the energy of a subspace after rotation (seed 31)", () => {
  it.each([64, 128, 256])("has mean and variance of Beta(m/2, (d-m)/2) at d = %i", (headDim) => {
    const quantizer = createQuantizer({ headDim, seed: 31 });
    const random = new Random(31);
    const calibration = noCalibration(headDim);
    const energies: number[] = [];
    for (let draw = 0; draw < 2000; draw++) {
      const { direction } = encodeKey(quantizer, calibration, random.normals(headDim), 0);
      for (let b = 0; b < quantizer.subspaces; b++) energies.push(dot(direction, direction, 8 * b, 8 * b, 8));
    }
    const mean = energies.reduce((sum, energy) => sum + energy, 0) / energies.length;
    const variance = energies.reduce((sum, energy) => sum + (energy - mean) ** 2, 0) / energies.length;
    const [a, b] = [4, headDim / 2 - 4];
    // The energies of a key add up to 1, so the mean holds exactly up to f32.
    expect(Math.abs(mean - a / (a + b))).toBeLessThan(1e-6);
    // 16 000 to 64 000 draws: the sample variance is good to about 1.5 %; four times that.
    expect(Math.abs(variance / ((a * b) / ((a + b) ** 2 * (a + b + 1))) - 1)).toBeLessThan(0.06);
  });
});

describe("the estimate of an inner product (seed 32)", () => {
  it.each([64, 128, 256])("is unbiased over random keys for a fixed query at d = %i", (headDim) => {
    const random = new Random(32);
    const draws = 4000;
    const quantizer = createQuantizer({ headDim, seed: random.word() });
    const query = random.normals(headDim);
    const keys = random.normals(draws * headDim);
    const estimates = estimateAll(quantizer, keys, draws, query);
    const errors = Array.from(estimates, (value, i) => value - dot(keys, query, i * headDim));
    const mean = errors.reduce((sum, error) => sum + error, 0) / draws;
    const deviation = Math.sqrt(errors.reduce((sum, error) => sum + error * error, 0) / draws);
    // Four standard errors of the mean: a right estimator fails once in 16 000 seeds.
    expect(Math.abs(mean)).toBeLessThan((4 * deviation) / Math.sqrt(draws));
    // Quantisation costs about a tenth of ‖k‖‖q‖ / sqrt(d), which is what random inner products amount to.
    const relative = deviation / norm(query);
    expect(relative).toBeGreaterThan(0.05);
    expect(relative).toBeLessThan(0.15);
  });

  it("is unbiased over random rotations for a fixed key and a query that resembles it", () => {
    const random = new Random(33);
    const headDim = 64;
    const key = random.normals(headDim);
    const query = random.normals(headDim).map((value, j) => value + key[j]!);
    const exact = dot(key, query);
    const draws = 3000;
    const errors = Array.from({ length: draws }, () => {
      const quantizer = createQuantizer({ headDim, seed: random.word() });
      const encoded = encodeKey(quantizer, noCalibration(headDim), key, 0);
      const rotated = rotateByMatrix(query, quantizer.signs);
      let total = 0;
      rotated.forEach((value, j) => {
        total += decodeWeight(encoded.weights[j >>> 3]!) * quantizer.levels.values[encoded.codes[j]!]! * value;
      });
      return total - exact;
    });
    const mean = errors.reduce((sum, error) => sum + error, 0) / draws;
    const deviation = Math.sqrt(errors.reduce((sum, error) => sum + error * error, 0) / draws);
    // Four standard errors, and one part in a thousand for the weight bytes: their rounding, uniform within a step of up
    // to 1/8, is biased by the slope of the weights' density, second order in the step.
    expect(Math.abs(mean)).toBeLessThan((4 * deviation) / Math.sqrt(draws) + 1e-3 * Math.abs(exact));
  });

  it("does not shrink: the estimate of ‖k‖² is right but for the rounding of the weights", () => {
    const random = new Random(34);
    const quantizer = createQuantizer({ headDim: 128 });
    const draws = 400;
    let total = 0;
    for (let draw = 0; draw < draws; draw++) {
      const key = random.normals(128);
      const ratio = estimateAll(quantizer, key, 1, key)[0]! / dot(key, key);
      expect(Math.abs(ratio - 1)).toBeLessThan(1 / 16);
      total += ratio;
    }
    expect(Math.abs(total / draws - 1)).toBeLessThan(2e-3);
  });
});

describe("the error bound (seed 35)", () => {
  const headDim = 64;
  const keyCount = 1000;
  const queryCount = 1000;
  const random = new Random(35);
  const quantizer = createQuantizer({ headDim });
  // Scales from 0.01 to 100 and a few heavy channels: nothing in the bound assumes a distribution.
  const keys = random.normals(keyCount * headDim).map((value, i) => {
    const scale = 10 ** ((Math.floor(i / headDim) % 5) - 2);
    return value * scale * (i % headDim < 3 ? 20 : 1);
  });
  const calibration = noCalibration(headDim);
  const encoded = Array.from({ length: keyCount }, (_, i) => encodeKey(quantizer, calibration, keys, i * headDim));
  const bounds = encoded.map((key, i) => errorBound(quantizer, calibration, keys, i * headDim, key));

  it("is never violated in a million draws, and typically 4 to 12 times the error", () => {
    const { pages } = summarizeKeys({ quantizer, keys, tokens: keyCount });
    const everyKey = Uint32Array.from({ length: keyCount }, (_, i) => i);
    const rotated = new Float32Array(headDim);
    const estimates = new Float32Array(keyCount);
    let worst = 0;
    let squares = 0;
    for (let draw = 0; draw < queryCount; draw++) {
      const query = random.normals(headDim);
      const length = norm(query);
      rotate(query, 0, quantizer.signs, rotated, 0);
      estimate(quantizer, pages, everyKey, keyCount, rotated, 1, estimates);
      for (let i = 0; i < keyCount; i++) {
        const error = Math.abs(estimates[i]! - dot(keys, query, i * headDim));
        const ratio = error / (length * bounds[i]!);
        if (ratio > worst) worst = ratio;
        squares += ratio * ratio;
      }
    }
    // Without slack: the f32 error of the estimate is 1e-6 of ‖k‖‖q‖, the bound about 0.1 of it.
    expect(worst).toBeLessThan(1);
    const typical = 1 / Math.sqrt(squares / (keyCount * queryCount));
    expect(typical).toBeGreaterThan(4);
    expect(typical).toBeLessThan(12);
  });

  it("is reached by the query along the quantisation error", () => {
    for (let i = 0; i < 50; i++) {
      const { codes, weights } = encoded[i]!;
      const exact = rotateByMatrix(keys.subarray(i * headDim, (i + 1) * headDim), quantizer.signs);
      const residual = exact.map(
        (value, j) => value - decodeWeight(weights[j >>> 3]!) * quantizer.levels.values[codes[j]!]!,
      );
      // In the rotated domain the error for this query is ‖residual‖², its norm ‖residual‖.
      expect(norm(residual) / bounds[i]!).toBeCloseTo(1, 9);
    }
  });

  it("equals its closed form but for the rounding of the weights", () => {
    for (let i = 0; i < 50; i++) {
      const { direction, codes, norm: length } = encoded[i]!;
      let squares = 0;
      for (let b = 0; b < quantizer.subspaces; b++) {
        const energy = dot(direction, direction, 8 * b, 8 * b, 8);
        let alignment = 0;
        let valueSquares = 0;
        for (let j = 8 * b; j < 8 * b + 8; j++) {
          const value = quantizer.levels.values[codes[j]!]!;
          alignment += (value * direction[j]!) / Math.sqrt(energy);
          valueSquares += value * value;
        }
        squares += energy * (valueSquares / alignment ** 2 - 1);
      }
      const closedForm = length * Math.sqrt(squares);
      // A weight byte that is wrong by a share e ≤ 1/16 adds e² of the energy: never less, seldom a tenth more.
      expect(bounds[i]!).toBeGreaterThan(closedForm * 0.9999);
      expect(bounds[i]!).toBeLessThan(Math.hypot(closedForm, length / 16));
    }
  });

  it("holds for calibrated keys", () => {
    const queries = random.normals(50 * headDim);
    const found = findCalibration({ mode: "balance", headDim, keys, keyCount, queries, queryCount: 50 });
    const { pages } = summarizeKeys({ quantizer, keys, tokens: 50, calibration: found });
    const everyKey = Uint32Array.from({ length: 50 }, (_, i) => i);
    const estimates = new Float32Array(50);
    const rotated = new Float32Array(headDim);
    for (let draw = 0; draw < 50; draw++) {
      const query = queries.subarray(draw * headDim, (draw + 1) * headDim);
      const balanced = query.map((value, j) => value * found.balance[j]!);
      rotate(balanced, 0, quantizer.signs, rotated, 0);
      estimate(quantizer, pages, everyKey, 50, rotated, 1, estimates);
      for (let i = 0; i < 50; i++) {
        const key = encodeKey(quantizer, found, keys, i * headDim);
        const exact = dot(keys, query, i * headDim) - dot(found.center, query);
        const bound = norm(balanced) * errorBound(quantizer, found, keys, i * headDim, key);
        expect(Math.abs(estimates[i]! - exact)).toBeLessThan(bound);
      }
    }
  });
});
