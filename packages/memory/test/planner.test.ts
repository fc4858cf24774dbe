import { createContext } from "@pariskv/kernels";
import { OutOfMemoryError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import {
  fitMemory,
  hotLinesFor,
  type KvGeometry,
  kvBytesPerToken,
  longestContext,
  type MemoryPlanRequest,
  planMemory,
  requireFit,
  summaryBytesPerToken,
} from "../src/index.js";
import { GEOMETRY, TestMemory, text, ZONES } from "./support/test-memory.js";
import { trackAllocations } from "./support/track-allocations.js";

const KIB = 1024;
const GIB = 2 ** 30;
const zones = { sinkTokens: 64, localTokens: 256, chunkTokens: 512 };
const llama: KvGeometry = { layers: 32, kvHeads: 8, queryGroup: 4, headDim: 128, kvDtype: "bf16" };
const request: MemoryPlanRequest = { geometry: llama, zones, contextTokens: 131_072, sequences: 1, countIds: false };

describe("bytes of a token", () => {
  it.each([
    ["Llama-3.1-8B", llama, 128],
    ["Qwen3-8B", { ...llama, layers: 36 }, 144],
    ["Qwen2.5-7B", { ...llama, layers: 28, kvHeads: 4, queryGroup: 7 }, 56],
  ] as const)("are those of %s: %j, %d KiB of K and V", (_, geometry, kib) => {
    expect(kvBytesPerToken(geometry)).toBe(kib * KIB);
    // 96 bytes of summary for 512 bytes of K and V.
    expect(summaryBytesPerToken(geometry)).toBe((kib * KIB * 96) / 512);
  });

  it("double in f32", () => {
    expect(kvBytesPerToken({ ...llama, kvDtype: "f32" })).toBe(256 * KIB);
    expect(summaryBytesPerToken({ ...llama, kvDtype: "f32" })).toBe(24 * KIB);
  });

  it.each([
    [131_072, 16],
    [1_048_576, 128],
  ])("make all K and V of Llama-3.1-8B at %d tokens %d GiB", (contextTokens, gib) => {
    expect(contextTokens * kvBytesPerToken(llama)).toBe(gib * GIB);
    const { bytes, lines } = planMemory({ ...request, contextTokens });
    const window = lines.find((line) => line.purpose === "window")?.bytes as number;
    // Pages hold what sink and ring do not, and the ring is at most a page and a chunk larger than its tokens.
    expect(bytes.mapped + window).toBeGreaterThanOrEqual(gib * GIB);
    expect(bytes.mapped + window).toBeLessThan(gib * GIB + 2 * 16 * 512 * kvBytesPerToken(llama));
  });
});

describe("hotLinesFor", () => {
  it.each([
    [1, 4],
    [100, 512],
    [128, 512],
    [129, 1024],
    [1024, 4096],
    [2048, 8192],
    [4096, 8192],
  ])("has room for four steps of %d keys, as far as a hot set goes: %d lines", (topK, lines) => {
    expect(hotLinesFor(topK)).toBe(lines);
  });
});

describe("planMemory", () => {
  it.each([
    { contextTokens: 20, sequences: 1, countIds: false, slabPages: 2 },
    { contextTokens: 532, sequences: 2, countIds: true, slabPages: 2 },
    { contextTokens: 533, sequences: 1, countIds: true, slabPages: 16 },
    { contextTokens: 1600, sequences: 1, countIds: false, slabPages: 2 },
    { contextTokens: 1600, sequences: 3, countIds: true, slabPages: 4 },
    { contextTokens: 1600, sequences: 2, countIds: false, slabPages: 4, hotLines: 64 },
  ])("predicts to the byte what is allocated when every page is in use: %o", (options) => {
    const context = createContext({ device: "reference" });
    const allocations = trackAllocations(context);
    const { contextTokens, sequences, countIds, slabPages, hotLines = 0 } = options;
    const test = new TestMemory({ context, slots: sequences, maxTokens: contextTokens, countIds, slabPages, hotLines });
    for (let i = 0; i < sequences; i++) test.build(text(contextTokens));
    const staging = 2 * ZONES.chunkTokens * 2 * 64 * 4 + ZONES.chunkTokens * 8;
    const shape = { geometry: GEOMETRY, zones: ZONES, contextTokens, sequences };
    const plan = planMemory({ ...shape, countIds, slabPages, hotLines });
    expect(plan.pages).toBe(test.memory.pages.usedPages);
    expect(plan.bytes).toEqual({
      device: allocations.bytes("device") - staging,
      pinned: allocations.bytes("pinned"),
      mapped: allocations.bytes("mapped"),
    });
    const { window, tables, hotSet, summaries, records } = test.memory.bytes;
    const byPurpose = Object.fromEntries(plan.lines.map((line) => [line.purpose, line.bytes]));
    const all = { window, tables, "hot set": hotSet, summaries, records };
    expect({ "hot set": 0, summaries: 0, records: 0, ...byPurpose }).toEqual(all);
  });

  it("puts every line where it is asked to lie", () => {
    const plan = planMemory({
      ...request,
      summaryKind: "mapped",
      recordKind: "device",
      weightBytes: 1000,
      workspaceBytes: (contextTokens) => contextTokens / 2,
    });
    expect(plan.lines.map(({ purpose, kind }) => [purpose, kind])).toEqual([
      ["weights", "device"],
      ["workspaces", "device"],
      ["window", "device"],
      ["tables", "device"],
      ["summaries", "mapped"],
      ["records", "device"],
    ]);
    expect(plan.lines[1]?.bytes).toBe(65_536);
    const sum = plan.lines.reduce((bytes, line) => bytes + line.bytes, 0);
    expect(plan.bytes.device + plan.bytes.mapped).toBe(sum);
  });

  it.each([
    ["contextTokens", { contextTokens: 0 }],
    ["contextTokens", { contextTokens: 1.5 }],
    ["sequences", { sequences: 0 }],
    ["slabPages", { slabPages: 0 }],
    ["weightBytes", { weightBytes: -1 }],
    ["workspaceBytes", { workspaceBytes: () => Number.NaN }],
    ["headDim", { geometry: { ...llama, headDim: 100 } }],
    ["hotLines", { hotLines: 100 }],
    ["recordKind", { recordKind: "disk" as "mapped" }],
    ["zones.sinkTokens", { zones: { ...zones, sinkTokens: -1 } }],
  ])("refuses a wrong %s by name", (argument, options) => {
    expect(() => planMemory({ ...request, ...options })).toThrow(`Expected ${argument} to be`);
  });
});

describe("whether a plan fits", () => {
  const plan = planMemory(request);
  const host = plan.bytes.mapped;

  it("is a question of every byte of each kind", () => {
    expect(fitMemory(plan, { deviceBytes: plan.bytes.device, hostBytes: host })).toEqual({ fits: true });
    expect(fitMemory(plan, { deviceBytes: plan.bytes.device - 1, hostBytes: host })).toEqual({
      fits: false,
      short: { kind: "device", requestedBytes: plan.bytes.device, availableBytes: plan.bytes.device - 1 },
    });
    expect(fitMemory(plan, { deviceBytes: plan.bytes.device, hostBytes: host - 1 }).short?.kind).toBe("host");
  });

  it("adds all kinds up where device and host are one", () => {
    const all = plan.bytes.device + host;
    expect(fitMemory(plan, { sharedBytes: all }).fits).toBe(true);
    expect(fitMemory(plan, { sharedBytes: all - 1 }).short).toEqual({
      kind: "host",
      requestedBytes: all,
      availableBytes: all - 1,
    });
  });

  it("is refused with both numbers", () => {
    expect(() => requireFit(plan, { deviceBytes: plan.bytes.device, hostBytes: host })).not.toThrow();
    expect(() => requireFit(plan, { sharedBytes: 5 })).toThrow(OutOfMemoryError);
    expect(() => requireFit(plan, { sharedBytes: 5 })).toThrow(
      `at least ${plan.bytes.device + host} bytes but received 5`,
    );
  });
});

describe("longestContext", () => {
  it("fits, and one token more does not", () => {
    const workspaceBytes = (contextTokens: number) => 40 * contextTokens;
    for (const gib of [2, 3, 7.5, 20]) {
      const limits = { sharedBytes: gib * GIB };
      const longest = longestContext({ ...request, workspaceBytes }, limits, 10 ** 6);
      const fits = (contextTokens: number) =>
        fitMemory(planMemory({ ...request, contextTokens, workspaceBytes }), limits).fits;
      expect([fits(longest), fits(longest + 1)]).toEqual([true, false]);
    }
  });

  it("never shrinks as memory grows, nor as other demands shrink", () => {
    let before = 0;
    for (let gib = 0.25; gib < 24; gib *= 1.25) {
      const limits = { deviceBytes: gib * GIB, hostBytes: 4 * gib * GIB };
      const longest = longestContext(request, limits, 131_072);
      expect(longest).toBeGreaterThanOrEqual(before);
      expect(longestContext({ ...request, sequences: 2 }, limits, 131_072)).toBeLessThanOrEqual(longest);
      before = longest;
    }
    expect(before).toBe(131_072);
  });

  it("is 0 where nothing fits, and never more than the most that is asked for", () => {
    expect(longestContext(request, { sharedBytes: 1 }, 1000)).toBe(0);
    expect(longestContext(request, { sharedBytes: 1 }, 1)).toBe(0);
    expect(longestContext(request, { sharedBytes: 2 ** 50 }, 777)).toBe(777);
  });
});
