import { BUDGET, BUDGET_FIELDS, MODE } from "@pariskv/kernels";
import { InvalidArgumentError, paperShares } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { fillBudgets } from "../src/budgets.js";
import {
  DEFAULT_POLICY,
  layerMode,
  layerPolicy,
  type Mode,
  planCapacity,
  type RetrievalPolicy,
  resolvePolicy,
} from "../src/index.js";

describe("resolvePolicy", () => {
  it("completes what is left out with the defaults", () => {
    expect(resolvePolicy({}, 4)).toEqual(DEFAULT_POLICY);
    expect(resolvePolicy({ topK: 7, layers: { 3: { mode: "scan" } } }, 4)).toEqual({
      ...DEFAULT_POLICY,
      topK: 7,
      layers: { 3: { mode: "scan" } },
    });
  });

  it.each([
    ["policy.votes", { votes: "paper" as "tiered" }],
    ["policy.group", { group: "min" as "max" }],
    ["policy.mode", { mode: "fast" as "auto" }],
    ["policy.topK", { topK: 0 }],
    ["policy.topK", { topK: 65_537 }],
    ["policy.topK", { topK: 1.5 }],
    ["policy.candidateShare", { candidateShare: 0 }],
    ["policy.candidateShare", { candidateShare: 1.01 }],
    ["policy.candidateShare", { candidateShare: Number.NaN }],
    ["policy.candidateShare", { candidateShare: "large" as "paper" }],
    ["policy.crossoverTokens", { crossoverTokens: -1 }],
    ["a layer of policy.layers", { layers: { 4: { topK: 1 } } }],
    ["a layer of policy.layers", { layers: { first: { topK: 1 } } as RetrievalPolicy["layers"] }],
    ["policy.layers[2].topK", { layers: { 2: { topK: -1 } } }],
    ["policy.layers[0].mode", { layers: { 0: { mode: "off" as "dense" } } }],
  ])("refuses a wrong %s by name", (argument, policy) => {
    expect(() => resolvePolicy(policy, 4)).toThrow(InvalidArgumentError);
    expect(() => resolvePolicy(policy, 4)).toThrow(`Expected ${argument} to be`);
  });
});

describe("layerMode", () => {
  const policy = resolvePolicy(
    { topK: 100, crossoverTokens: 1024, layers: { 0: { mode: "dense" }, 2: { topK: 600 } } },
    3,
  );

  it.each([
    // layer, zone, wish, rung
    [0, 4096, "policy", "dense"],
    [0, 4096, "vote", "dense"],
    [1, 0, "vote", "dense"],
    [1, 100, "scan", "dense"],
    [1, 101, "scan", "scan"],
    [1, 1023, "policy", "dense"],
    [1, 1023, "vote", "vote"],
    [1, 1024, "policy", "vote"],
    [1, 1024, "dense", "dense"],
    [2, 600, "vote", "dense"],
    [2, 601, "vote", "vote"],
  ] as [number, number, Mode | "policy", Mode][])(
    "of layer %d with %d keys and the wish %s is %s",
    (layer, zone, wish, rung) => {
      expect(layerMode(policy, layer, zone, wish)).toBe(rung);
    },
  );

  it("takes each field of a layer from the policy unless the layer has its own", () => {
    expect(layerPolicy(policy, 2)).toEqual({ mode: "auto", topK: 600, candidateShare: 0.05 });
  });
});

/** A sample of zone lengths, with all of those around the steps of the paper's shares and at the end. */
function zonesUpTo(maxTokens: number): number[] {
  const near = [0, 5000, 10_000, 30_000, maxTokens];
  const around = near.flatMap((tokens) => [-2, -1, 0, 1, 2].map((offset) => tokens + offset));
  const sample = Array.from({ length: Math.ceil(maxTokens / 509) }, (_, index) => index * 509);
  return [...sample, ...around].filter((zone) => zone >= 0 && zone <= maxTokens);
}

describe("budgets", () => {
  const budgetsOf = (policy: RetrievalPolicy, zone: number, wish: Mode | "policy" = "policy", layers = 3) => {
    const table = new Int32Array(layers * BUDGET_FIELDS).fill(-1);
    fillBudgets(policy, zone, wish, table);
    return Array.from({ length: layers }, (_, layer) => [
      ...table.subarray(layer * BUDGET_FIELDS, (layer + 1) * BUDGET_FIELDS),
    ]);
  };

  it("are mode, candidates, K and the paper's six tier limits", () => {
    const policy = resolvePolicy(
      { mode: "vote", topK: 100, candidateShare: 0.1, layers: { 0: { mode: "dense" }, 2: { mode: "scan", topK: 9 } } },
      3,
    );
    // 20 % of 30,720 keys are activated; the tiers are .05 .15 .30 .50 .75 and 1 of them, rounded up.
    const tiers = [308, 922, 1844, 3072, 4608, 6144];
    expect(budgetsOf(policy, 30_720)).toEqual([
      [MODE.DENSE, 3072, 100, ...tiers],
      [MODE.VOTE, 3072, 100, ...tiers],
      [MODE.SCAN, 30_720, 9, ...tiers],
    ]);
  });

  it("follow the paper's shares where they are asked for", () => {
    const policy = resolvePolicy({ mode: "vote", candidateShare: "paper" }, 1);
    for (const [zone, candidates] of [
      [4096, 2048],
      [5120, 1280],
      [10_240, 2048],
      [30_720, 3072],
    ] as const) {
      expect(budgetsOf(policy, zone, "policy", 1)[0]?.[BUDGET.CANDIDATES]).toBe(candidates);
      expect(Math.ceil(zone * paperShares(zone).candidateShare)).toBe(candidates);
    }
  });

  it("rerank at least four times the keys that are fetched, and never more than there are", () => {
    const policy = resolvePolicy({ mode: "vote", topK: 700, candidateShare: 0.01 }, 1);
    expect(budgetsOf(policy, 4096, "policy", 1)[0]?.slice(0, 3)).toEqual([MODE.VOTE, 2800, 700]);
    expect(budgetsOf(policy, 1024, "policy", 1)[0]?.slice(0, 3)).toEqual([MODE.VOTE, 1024, 700]);
    expect(budgetsOf(policy, 512, "policy", 1)[0]?.slice(0, 3)).toEqual([MODE.DENSE, 512, 512]);
    expect(budgetsOf(policy, 0, "policy", 1)[0]).toEqual([MODE.DENSE, 0, 0, 0, 0, 0, 0, 0, 0]);
  });

  it.each([
    ["the paper's shares", { candidateShare: "paper" }],
    ["a fixed share", { candidateShare: 0.07, topK: 300 }],
    ["a large K", { topK: 4096, candidateShare: 0.01 }],
    ["a layer that scans", { layers: { 1: { mode: "scan" } } }],
    ["layers of different K", { layers: { 0: { mode: "dense", topK: 9000 }, 2: { topK: 800, candidateShare: 0.3 } } }],
  ] as [string, Partial<RetrievalPolicy>][])("of every shorter zone fit the plan: %s", (_, partial) => {
    const policy = resolvePolicy({ mode: "vote", ...partial }, 3);
    for (const maxTokens of [100, 4999, 5000, 9000, 12_000, 40_000]) {
      const { maxZoneTokens, maxCandidates, maxTopK } = planCapacity(policy, 3, maxTokens);
      expect(maxZoneTokens).toBe(maxTokens);
      let mostCandidates = 1;
      for (const zone of zonesUpTo(maxTokens)) {
        for (const [mode, candidates, topK] of budgetsOf(policy, zone) as [number, number, number][]) {
          if (mode === MODE.DENSE) continue;
          mostCandidates = Math.max(mostCandidates, candidates);
          if (topK > maxTopK) throw new Error(`K ${topK} of ${zone} keys exceeds the plan's ${maxTopK}`);
        }
        if (mostCandidates > maxCandidates) throw new Error(`${mostCandidates} candidates of ${zone} keys`);
      }
      // The plan is no larger than it must be either, but for zones that are dense.
      if (maxTokens > 4999) expect(maxCandidates).toBe(mostCandidates);
    }
  });
});
