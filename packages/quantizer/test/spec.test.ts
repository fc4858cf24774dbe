import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  CENTROIDS,
  CODE_SIGN_BIT,
  InvalidArgumentError,
  MAGNITUDE_BITS,
  MAGNITUDE_LEVELS,
  MAX_HEAD_DIM,
  MAX_VOTE,
  NO_SCORE,
  PAGE_TOKENS,
  SCORE_BINS,
  SUBSPACE_DIM,
  summaryLayout,
  TIER_SHARES_PERCENT,
  WEIGHT_EXPONENT_BIAS,
  WEIGHT_SHIFT,
} from "../src/index.js";

describe("the specification", () => {
  it("has constants that follow from one another", () => {
    expect(CENTROIDS).toBe(2 ** SUBSPACE_DIM);
    expect(MAGNITUDE_LEVELS).toBe(2 ** MAGNITUDE_BITS);
    expect(CODE_SIGN_BIT).toBe(MAGNITUDE_LEVELS);
    expect(SCORE_BINS).toBe((MAX_VOTE * MAX_HEAD_DIM) / SUBSPACE_DIM + 1);
    expect(SCORE_BINS).toBeLessThan(NO_SCORE);
    expect(4 * MAX_VOTE).toBeLessThan(256);
    expect(WEIGHT_EXPONENT_BIAS).toBe((127 - 16) << 3);
    expect(WEIGHT_SHIFT).toBe(23 - 3);
    expect(TIER_SHARES_PERCENT).toEqual([5, 15, 30, 50, 75, 100]);
  });

  it.each([
    [64, 8, 48],
    [128, 16, 96],
    [256, 32, 192],
  ])(
    "lays out head dimension %i in %i subspaces and %i bytes a key, plane after plane",
    (headDim, subspaces, bytes) => {
      const layout = summaryLayout(headDim);
      expect(layout).toEqual({
        subspaces,
        bytesPerKey: bytes,
        idsOffsetBytes: 0,
        codesOffsetBytes: subspaces * PAGE_TOKENS,
        weightsOffsetBytes: (subspaces + headDim / 2) * PAGE_TOKENS,
        headPageBytes: bytes * PAGE_TOKENS,
      });
    },
  );

  it.each([0, 8, 32, 96, 512, 64.5, Number.NaN])("refuses head dimension %s", (headDim) => {
    expect(() => summaryLayout(headDim)).toThrow(InvalidArgumentError);
  });

  it("is browser-safe: the sources import nothing but each other", () => {
    const folder = new URL("../src/", import.meta.url);
    const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
    expect(files.length).toBeGreaterThan(20);
    for (const file of files) {
      const source = readFileSync(new URL(file, folder), "utf8");
      for (const [, specifier] of source.matchAll(/from "([^"]+)"/g)) expect(specifier).toMatch(/^\.\.?\/.*\.js$/);
      expect(source).not.toMatch(/\b(process|Buffer|require|globalThis)\b/);
    }
  });
});
