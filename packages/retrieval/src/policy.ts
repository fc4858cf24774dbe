import type { Group, Votes } from "@pariskv/kernels";
import { InvalidArgumentError, requireInteger, requireOneOf } from "@pariskv/quantizer";

/** A rung of the ladder: everything, estimate every key, or votes first (section 3 of the algorithm). */
export type Mode = "dense" | "scan" | "vote";

/** What may differ from layer to layer: first layers average broadly, and no small K serves them (section 4). */
export interface LayerPolicy {
  /** `auto`: dense below the crossover, votes above it. */
  readonly mode: Mode | "auto";
  /** Keys fetched for each KV head. */
  readonly topK: number;
  /** Share of the zone that is reranked, or `paper` for the paper's schedule by length. At least `topK` keys are. */
  readonly candidateShare: number | "paper";
}

/** How keys are found. */
export interface RetrievalPolicy extends LayerPolicy {
  /** How votes are made. */
  readonly votes: Votes;
  /** How the query heads that share a KV head are combined. */
  readonly group: Group;
  /** Tokens of the retrieval zone below which `auto` takes dense attention, because it is faster there. */
  readonly crossoverTokens: number;
  /** Layers that differ, by their index. */
  readonly layers: Readonly<Record<number, Partial<LayerPolicy>>>;
}

/**
 * Graded votes at a share of .05 keep on isotropic keys at least what the paper's tiers on the mean query keep at .20. `sum`
 * keeps a little more of the attention mass than `max` and needs one vote table for a KV head. Keys with a large common mean
 * want a calibration or a larger share (test/quality.test.ts holds both). Below 2,048 zone tokens a search costs what it
 * saves; `measureCrossover` finds the number of a machine.
 */
export const DEFAULT_POLICY: RetrievalPolicy = {
  mode: "auto",
  topK: 100,
  candidateShare: 0.05,
  votes: "graded",
  group: "sum",
  crossoverTokens: 2048,
  layers: {},
};

/**
 * Completes a policy with {@link DEFAULT_POLICY} and checks every number.
 *
 * @throws InvalidArgumentError for an unknown name, a number out of range, or a layer that the model does not have.
 */
export function resolvePolicy(partial: Partial<RetrievalPolicy>, layers: number): RetrievalPolicy {
  const policy = { ...DEFAULT_POLICY, ...partial };
  requireOneOf<Votes>("policy.votes", policy.votes, ["tiered", "graded"]);
  requireOneOf<Group>("policy.group", policy.group, ["mean", "max", "sum"]);
  requireInteger("policy.crossoverTokens", policy.crossoverTokens, 0, 2 ** 31 - 1);
  checkLayer("policy", policy);
  for (const [layer, overrides] of Object.entries(policy.layers)) {
    requireInteger("a layer of policy.layers", Number(layer), 0, layers - 1);
    checkLayer(`policy.layers[${layer}]`, { ...policy, ...overrides });
  }
  return policy;
}

/** The policy of one layer. */
export function layerPolicy(policy: RetrievalPolicy, layer: number): LayerPolicy {
  return { mode: policy.mode, topK: policy.topK, candidateShare: policy.candidateShare, ...policy.layers[layer] };
}

/**
 * The rung that a layer takes with `zoneTokens` in the retrieval zone; `override` is the sequence's own wish.
 *
 * A layer that is dense by policy stays dense: no search is recorded for it. So does any layer whose K reaches the whole
 * zone: dense attention says the same without the search.
 */
export function layerMode(
  policy: RetrievalPolicy,
  layer: number,
  zoneTokens: number,
  override: Mode | "policy" = "policy",
): Mode {
  const own = layerPolicy(policy, layer);
  if (own.mode === "dense" || zoneTokens <= own.topK) return "dense";
  const mode = override === "policy" ? own.mode : override;
  if (mode !== "auto") return mode;
  return zoneTokens < policy.crossoverTokens ? "dense" : "vote";
}

function checkLayer(argument: string, policy: LayerPolicy): void {
  requireOneOf<Mode | "auto">(`${argument}.mode`, policy.mode, ["auto", "dense", "scan", "vote"]);
  requireInteger(`${argument}.topK`, policy.topK, 1, 65_536);
  const share = policy.candidateShare;
  if (share !== "paper" && !(typeof share === "number" && share > 0 && share <= 1)) {
    throw new InvalidArgumentError({
      argument: `${argument}.candidateShare`,
      expected: 'a number above 0 and at most 1, or "paper"',
      received: share,
    });
  }
}
