import { InvalidArgumentError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { mostLikely } from "../../src/text/most-likely.js";

describe("mostLikely", () => {
  it("gives ties to the smaller id", () => {
    expect(mostLikely(Float32Array.of(-3, 2, 1, 2))).toBe(1);
  });

  it("passes over what is not finite", () => {
    expect(mostLikely(Float32Array.of(Number.NaN, -5, Number.POSITIVE_INFINITY, -4))).toBe(3);
  });

  it("refuses logits of which none is finite", () => {
    for (const logits of [[], [Number.NaN], [Number.NEGATIVE_INFINITY, Number.NaN]]) {
      expect(() => mostLikely(Float32Array.from(logits))).toThrow(InvalidArgumentError);
    }
  });
});
