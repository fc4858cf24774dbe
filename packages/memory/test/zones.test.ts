import { InvalidArgumentError, PAGE_TOKENS } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { checkZones, ringTokens, sealedPages, zoneCounts } from "../src/index.js";

describe("sealedPages", () => {
  it.each([
    { sinkTokens: 0, localTokens: 1, chunkTokens: 1 },
    { sinkTokens: 5, localTokens: 16, chunkTokens: 64 },
    { sinkTokens: 64, localTokens: 256, chunkTokens: 512 },
    { sinkTokens: 700, localTokens: 3, chunkTokens: 1300 },
  ])("is what appending token by token and flushing full rings gives: %o", (zones) => {
    let ring = 0;
    let pages = 0;
    for (let tokens = 1; tokens <= 4000; tokens++) {
      if (tokens > zones.sinkTokens) ring++;
      if (ring === zones.localTokens + PAGE_TOKENS) {
        ring -= PAGE_TOKENS;
        pages++;
      }
      expect(sealedPages(zones, tokens)).toBe(pages);
      const counts = zoneCounts(zones, tokens, pages * PAGE_TOKENS);
      expect(counts).toEqual({ sink: Math.min(tokens, zones.sinkTokens), zone: pages * PAGE_TOKENS, ring });
    }
  });

  it("leaves room in the ring for two chunks at any length, and keeps the local window", () => {
    const zones = { sinkTokens: 5, localTokens: 16, chunkTokens: 64 };
    let fullest = 0;
    for (let tokens = 0; tokens < 4000; tokens++) {
      const { ring } = zoneCounts(zones, tokens, sealedPages(zones, tokens) * PAGE_TOKENS);
      fullest = Math.max(fullest, ring + 2 * zones.chunkTokens);
      if (tokens >= zones.sinkTokens + zones.localTokens) expect(ring).toBeGreaterThanOrEqual(zones.localTokens);
    }
    expect(fullest).toBe(ringTokens(zones));
  });
});

describe("checkZones", () => {
  const zones = { sinkTokens: 0, localTokens: 1, chunkTokens: 1 };

  it("takes the smallest shape", () => {
    expect(() => checkZones(zones)).not.toThrow();
  });

  it.each([
    ["sinkTokens", -1],
    ["sinkTokens", 1.5],
    ["localTokens", 0],
    ["localTokens", Number.NaN],
    ["chunkTokens", 0],
    ["chunkTokens", 2 ** 20 + 1],
  ])("refuses %s = %d by name", (name, value) => {
    expect(() => checkZones({ ...zones, [name]: value })).toThrow(InvalidArgumentError);
    expect(() => checkZones({ ...zones, [name]: value })).toThrow(`Expected zones.${name} to be a whole number`);
  });
});
