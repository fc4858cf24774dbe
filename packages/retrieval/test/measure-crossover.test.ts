import { createContext } from "@pariskv/kernels";
import { describe, expect, it } from "vitest";
import { trackAllocations } from "../../memory/test/support/track-allocations.js";
import { measureCrossover } from "../src/index.js";

const shape = { queryHeads: 2, kvHeads: 1, headDim: 64 };

describe("measureCrossover", () => {
  it("measures every length that has something to search, and takes its answer from them", () => {
    const context = createContext({ device: "reference" });
    const allocations = trackAllocations(context);
    // 800 tokens are all in sink and ring.
    const lengths = [800, 1024, 2048];
    const { points, crossoverTokens } = measureCrossover({
      context,
      shape,
      lengths,
      policy: { layers: { 0: { topK: 1 } } },
    });
    expect(points.map(({ contextTokens, zoneTokens }) => [contextTokens, zoneTokens])).toEqual([
      [1024, 512],
      [2048, 1536],
    ]);
    for (const { denseUs, voteUs } of points) {
      expect(denseUs).toBeGreaterThan(0);
      expect(voteUs).toBeGreaterThan(0);
    }
    const [short, long] = points.map(({ denseUs, voteUs }) => voteUs < denseUs);
    let expected = Number.POSITIVE_INFINITY;
    if (long) expected = short ? 512 : 1536;
    expect(crossoverTokens).toBe(expected);
    expect(allocations.live.size).toBe(0);
  });

  it("has no answer where K reaches the whole zone", () => {
    const context = createContext({ device: "reference" });
    const result = measureCrossover({ context, shape, lengths: [1024], policy: { topK: 512 } });
    expect(result).toEqual({ crossoverTokens: Number.POSITIVE_INFINITY, points: [] });
  });

  it.each([[[2048, 1024]], [[1024, 1024]], [[0]]])("refuses the lengths %j", (lengths) => {
    const context = createContext({ device: "reference" });
    expect(() => measureCrossover({ context, shape, lengths })).toThrow("Expected lengths to be ascending");
  });
});
