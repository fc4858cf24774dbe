import { describe, expect, it } from "vitest";
import { InvalidArgumentError, magnitudeLevels } from "../src/index.js";

const dims = [4, 5, 6, 7, 8];
const bitCounts = [2, 3, 4];
const quantizers = dims.flatMap((dim) => bitCounts.map((bits) => [dim, bits] as const));

/** Integrates x^power times the density over [from, to] by the midpoint rule in the angle, x = sin(angle). */
function integrate(power: number, dim: number, from: number, to: number, steps = 20_000): number {
  const [start, end] = [Math.asin(from), Math.asin(to)];
  const width = (end - start) / steps;
  let total = 0;
  for (let i = 0; i < steps; i++) {
    const angle = start + (i + 0.5) * width;
    total += Math.sin(angle) ** power * Math.cos(angle) ** (dim - 2) * width;
  }
  return total;
}

function cells(thresholds: Float64Array): (readonly [number, number])[] {
  const borders = [0, ...thresholds, 1];
  return borders.slice(1).map((border, level) => [borders[level]!, border]);
}

function distortion(dim: number, centers: ArrayLike<number>, thresholds: Float64Array): number {
  return cells(thresholds).reduce((sum, [from, to], level) => {
    const c = centers[level]!;
    const moment = (power: number) => integrate(power, dim, from, to, 2000);
    return sum + moment(2) - 2 * c * moment(1) + c * c * moment(0);
  }, 0);
}

describe("magnitude levels", () => {
  it("have the known values for 8 coordinates and 8 levels", () => {
    const { centers, thresholds } = magnitudeLevels(8, 3);
    const knownCenters = [0.0425, 0.128, 0.2152, 0.3053, 0.4003, 0.503, 0.6193, 0.7648];
    const knownThresholds = [0.0853, 0.1716, 0.2603, 0.3528, 0.4516, 0.5612, 0.6921];
    knownCenters.forEach((value, i) => {
      expect(Math.abs(centers[i]! - value)).toBeLessThan(1e-4);
    });
    knownThresholds.forEach((value, i) => {
      expect(Math.abs(thresholds[i]! - value)).toBeLessThan(1e-4);
    });
  });

  it.each(quantizers)("of %i coordinates and %i bits are stationary", (dim, bits) => {
    const { centers, thresholds } = magnitudeLevels(dim, bits);
    expect(centers.length).toBe(2 ** bits);
    // The midpoint rule of the oracle and Boole's rule of the levels are each good to about 1e-10 here.
    cells(thresholds).forEach(([from, to], level) => {
      const mean = integrate(1, dim, from, to) / integrate(0, dim, from, to);
      expect(Math.abs(centers[level]! - mean)).toBeLessThan(1e-9);
      expect(from).toBeLessThan(to);
    });
    thresholds.forEach((threshold, t) => {
      expect(threshold).toBeCloseTo((centers[t]! + centers[t + 1]!) / 2, 14);
    });
  });

  it("are a minimum: moving any center or threshold costs distortion", () => {
    const { centers, thresholds } = magnitudeLevels(8, 3);
    const least = distortion(8, centers, thresholds);
    for (let level = 0; level < centers.length; level++) {
      for (const move of [-1e-3, 1e-3]) {
        const moved = centers.map((value, i) => (i === level ? value + move : value));
        expect(distortion(8, moved, thresholds)).toBeGreaterThan(least);
        if (level === thresholds.length) continue;
        const shifted = thresholds.map((value, i) => (i === level ? value + move : value));
        expect(distortion(8, centers, shifted)).toBeGreaterThan(least);
      }
    }
  });

  it("are rounded to f32 and signed for every code", () => {
    const { centers, thresholds, centersFloat32, thresholdsFloat32, values } = magnitudeLevels(8, 3);
    expect(centersFloat32).toEqual(Float32Array.from(centers));
    expect(thresholdsFloat32).toEqual(Float32Array.from(thresholds));
    expect(Array.from(values)).toEqual([...Array.from(centersFloat32, (c) => -c), ...centersFloat32]);
  });

  it("are derived once", () => {
    expect(magnitudeLevels(8, 3)).toBe(magnitudeLevels(8, 3));
    expect(magnitudeLevels(8, 3)).not.toBe(magnitudeLevels(8, 2));
  });

  it.each([
    [3, 3],
    [9, 3],
    [8, 1],
    [8, 5],
    [4.5, 3],
  ])("refuse %d coordinates and %d bits", (dim, bits) => {
    expect(() => magnitudeLevels(dim, bits)).toThrow(InvalidArgumentError);
  });
});
