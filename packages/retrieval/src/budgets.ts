import { BUDGET, BUDGET_FIELDS, type DeviceName, MODE } from "@pariskv/kernels";
import { hotLinesFor } from "@pariskv/memory";
import { candidateCount, paperShares, tierLimits } from "@pariskv/quantizer";
import { layerMode, layerPolicy, type Mode, type RetrievalPolicy } from "./policy.js";

/** What a plan must have room for. */
export interface PlanCapacity {
  readonly maxZoneTokens: number;
  readonly maxCandidates: number;
  readonly maxTopK: number;
}

/** Lengths from which on the paper's shares are smaller: the most candidates may be wanted just before one of them. */
const PAPER_STEPS = [5_000, 10_000, 30_000];

/** The capacities of a plan for sequences of up to `maxTokens`: no budget of a shorter one is larger. */
export function planCapacity(policy: RetrievalPolicy, layers: number, maxTokens: number): PlanCapacity {
  const lengths = [...PAPER_STEPS.map((step) => step - 1).filter((tokens) => tokens < maxTokens), maxTokens];
  let maxCandidates = 1;
  let maxTopK = 1;
  for (let layer = 0; layer < layers; layer++) {
    const { mode, topK } = layerPolicy(policy, layer);
    if (mode === "dense") continue;
    const voted = Math.max(...lengths.map((tokens) => votedCandidates(policy, layer, tokens)));
    maxCandidates = Math.max(maxCandidates, mode === "scan" ? maxTokens : voted);
    maxTopK = Math.max(maxTopK, Math.min(topK, maxTokens));
  }
  return { maxZoneTokens: maxTokens, maxCandidates, maxTopK };
}

/**
 * Lines of the hot set that suits a policy on a device: none where the device is its own host, or no layer searches.
 */
export function defaultHotLines(policy: RetrievalPolicy, layers: number, device: DeviceName): number {
  if (device !== "cuda") return 0;
  const searching = Array.from({ length: layers }, (_, layer) => layerPolicy(policy, layer)).filter(
    ({ mode }) => mode !== "dense",
  );
  return searching.length === 0 ? 0 : hotLinesFor(Math.max(...searching.map(({ topK }) => topK)));
}

/** Writes the budgets of all layers for a zone of `zoneTokens` into `budgets`, `[layers, BUDGET_FIELDS] i32`. */
export function fillBudgets(
  policy: RetrievalPolicy,
  zoneTokens: number,
  override: Mode | "policy",
  budgets: Int32Array,
): void {
  const tiers = tierLimits(zoneTokens, paperShares(zoneTokens).activatedShare);
  for (let layer = 0; layer < budgets.length / BUDGET_FIELDS; layer++) {
    const at = layer * BUDGET_FIELDS;
    const mode = layerMode(policy, layer, zoneTokens, override);
    budgets[at + BUDGET.MODE] = { dense: MODE.DENSE, scan: MODE.SCAN, vote: MODE.VOTE }[mode];
    budgets[at + BUDGET.CANDIDATES] = mode === "scan" ? zoneTokens : votedCandidates(policy, layer, zoneTokens);
    budgets[at + BUDGET.TOP_K] = Math.min(layerPolicy(policy, layer).topK, zoneTokens);
    budgets.set(tiers, at + BUDGET.TIER_0);
  }
}

/**
 * Candidates that are reranked for each key that is fetched, at least: votes alone are coarse, and a share of a short
 * zone would leave the rerank nothing to choose from.
 */
const CANDIDATES_PER_KEY = 4;

/** Candidates of a layer that votes: its share of the zone, and never fewer than {@link CANDIDATES_PER_KEY} times K. */
function votedCandidates(policy: RetrievalPolicy, layer: number, zoneTokens: number): number {
  const { topK, candidateShare } = layerPolicy(policy, layer);
  const share = candidateShare === "paper" ? paperShares(zoneTokens).candidateShare : candidateShare;
  return Math.min(zoneTokens, Math.max(CANDIDATES_PER_KEY * topK, candidateCount(zoneTokens, share)));
}
