import { describe, expect, it } from "vitest";
import { candidateCount, InvalidArgumentError, paperShares, tierLimits } from "../src/index.js";

describe("budgets", () => {
  it.each([
    [0, 0.5, 0.5],
    [4_999, 0.5, 0.5],
    [5_000, 0.25, 0.3],
    [9_999, 0.25, 0.3],
    [10_000, 0.2, 0.25],
    [29_999, 0.2, 0.25],
    [30_000, 0.1, 0.2],
    [1_000_000, 0.1, 0.2],
  ])("at %i keys follow the paper: %d candidates, %d activated", (tokens, candidateShare, activatedShare) => {
    expect(paperShares(tokens)).toEqual({ candidateShare, activatedShare });
  });

  it("round the number of candidates up, but not for the sake of a rounding error", () => {
    expect(100 * 0.07).toBeGreaterThan(7);
    expect(candidateCount(100, 0.07)).toBe(7);
    expect(candidateCount(101, 0.07)).toBe(8);
    expect(candidateCount(0, 1)).toBe(0);
    expect(candidateCount(1, 1e-9)).toBe(1);
    expect(candidateCount(2 ** 26, 1)).toBe(2 ** 26);
  });

  it("equal the ceiling of exact rational arithmetic for every percentage", () => {
    for (let percent = 1; percent <= 100; percent++) {
      for (const tokens of [1, 99, 512, 4097, 131_072, 1_048_576]) {
        const exact = Number((BigInt(tokens) * BigInt(percent) + 99n) / 100n);
        expect(candidateCount(tokens, percent / 100)).toBe(exact);
      }
    }
  });

  it("place six tiers below the activated keys", () => {
    expect(Array.from(tierLimits(1000, 0.2))).toEqual([10, 30, 60, 100, 150, 200]);
    expect(Array.from(tierLimits(1, 0.2))).toEqual([1, 1, 1, 1, 1, 1]);
    expect(Array.from(tierLimits(0, 0.2))).toEqual([0, 0, 0, 0, 0, 0]);
    expect(Array.from(tierLimits(131_072, 0.2))).toEqual(
      [5, 15, 30, 50, 75, 100].map((percent) => Number((131_072n * 20n * BigInt(percent) + 9_999n) / 10_000n)),
    );
  });

  it.each([0, -0.1, 1.1, Number.NaN])("refuse the share %s", (share) => {
    expect(() => candidateCount(10, share)).toThrow(InvalidArgumentError);
    expect(() => tierLimits(10, share)).toThrow(InvalidArgumentError);
  });

  it.each([-1, 1.5, Number.NaN, 2 ** 26 + 1])("refuse %s tokens", (tokens) => {
    expect(() => paperShares(tokens)).toThrow(InvalidArgumentError);
    expect(() => candidateCount(tokens, 0.5)).toThrow(InvalidArgumentError);
    expect(() => tierLimits(tokens, 0.5)).toThrow(InvalidArgumentError);
  });
});
