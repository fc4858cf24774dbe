import { describe, expect, it } from "vitest";
import { ropeFrequencies } from "../../src/dense/index.js";

const LLAMA_31 = {
  type: "llama3",
  factor: 8,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalMaxPositions: 8192,
} as const;

describe("ropeFrequencies", () => {
  it("is a geometric series from 1 down", () => {
    const frequencies = ropeFrequencies({ headDim: 128, theta: 1e6 });
    expect(frequencies).toHaveLength(64);
    expect(frequencies[0]).toBe(1);
    for (const [j, frequency] of frequencies.entries()) {
      expect(frequency).toBe(Math.fround(Math.exp((-j / 64) * Math.log(1e6))));
    }
    expect(ropeFrequencies({ headDim: 128, theta: 1e6, scaling: { type: "none" } })).toEqual(frequencies);
  });

  it("slows pairs down by their wavelength as llama3 scaling does", () => {
    const plain = ropeFrequencies({ headDim: 128, theta: 5e5 });
    const scaled = ropeFrequencies({ headDim: 128, theta: 5e5, scaling: LLAMA_31 });
    const kinds = { kept: 0, between: 0, slowed: 0 };
    for (const [j, frequency] of scaled.entries()) {
      // The published rule, by wavelengths in tokens.
      const wavelength = 2 * Math.PI * 5e5 ** (j / 64);
      let expected: number;
      if (wavelength < 8192 / 4) {
        kinds.kept++;
        expected = plain[j]!;
      } else if (wavelength > 8192 / 1) {
        kinds.slowed++;
        expected = plain[j]! / 8;
      } else {
        kinds.between++;
        const smooth = (8192 / wavelength - 1) / (4 - 1);
        expected = ((1 - smooth) * plain[j]!) / 8 + smooth * plain[j]!;
      }
      expect(Math.abs(frequency - expected)).toBeLessThanOrEqual(2e-7 * expected);
    }
    expect(kinds).toEqual({ kept: 29, between: 6, slowed: 29 });
  });

  it("refuses an odd head dimension and numbers out of range", () => {
    expect(() => ropeFrequencies({ headDim: 127, theta: 1e6 })).toThrow(
      "Expected headDim to be even but received 127.",
    );
    expect(() => ropeFrequencies({ headDim: 0, theta: 1e6 })).toThrow("Expected headDim");
    for (const theta of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => ropeFrequencies({ headDim: 64, theta })).toThrow("Expected theta to be a finite number above 0");
    }
    for (const [name, value] of [
      ["factor", 0],
      ["lowFreqFactor", -1],
      ["highFreqFactor", 1],
      ["originalMaxPositions", 0],
    ]) {
      expect(() =>
        ropeFrequencies({ headDim: 64, theta: 1e4, scaling: { ...LLAMA_31, [name as string]: value } }),
      ).toThrow(`Expected scaling.${name} to be`);
    }
  });
});
