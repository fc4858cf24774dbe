import { TIER_SHARES_PERCENT } from "./spec.js";
import { requireInteger, requireShare } from "./validate.js";

/** Shares are taken to a millionth, so that their products with a token count are exact integers. */
const MILLION = 1_000_000;
/** 2^26 tokens · 10^6 millionths · 100 percent stays below 2^53. */
const MAX_TOKENS = 2 ** 26;

/** The two shares of one decode step. */
export interface BudgetShares {
  /** β, the share of the retrieval zone that becomes candidates. */
  readonly candidateShare: number;
  /** ρ_c, the share of the keys of a subspace that a tiered vote table activates. */
  readonly activatedShare: number;
}

/**
 * The shares of the paper for a retrieval zone of `tokens` keys (section 3 of the algorithm).
 *
 * @throws InvalidArgumentError when `tokens` is not a whole number up to 2^26.
 */
export function paperShares(tokens: number): BudgetShares {
  requireInteger("tokens", tokens, 0, MAX_TOKENS);
  if (tokens < 5_000) return { candidateShare: 0.5, activatedShare: 0.5 };
  if (tokens < 10_000) return { candidateShare: 0.25, activatedShare: 0.3 };
  if (tokens < 30_000) return { candidateShare: 0.2, activatedShare: 0.25 };
  return { candidateShare: 0.1, activatedShare: 0.2 };
}

/**
 * The number of candidates, `ceil(share · tokens)`, with the share taken to a millionth so that 7 % of 100 is 7.
 *
 * @throws InvalidArgumentError when `tokens` is not a whole number up to 2^26 or `share` is not above 0 and at most 1.
 */
export function candidateCount(tokens: number, share: number): number {
  requireInteger("tokens", tokens, 0, MAX_TOKENS);
  requireShare("share", share);
  return Math.ceil((tokens * millionths(share)) / MILLION);
}

/**
 * The six tier limits T_t of a tiered vote table, ascending, `[6] u32`: `ceil(tokens · activatedShare · tier share)`.
 *
 * @throws InvalidArgumentError when `tokens` is not a whole number up to 2^26 or `activatedShare` is not above 0 and at most 1.
 */
export function tierLimits(tokens: number, activatedShare: number): Uint32Array {
  requireInteger("tokens", tokens, 0, MAX_TOKENS);
  requireShare("activatedShare", activatedShare);
  const activated = tokens * millionths(activatedShare);
  return Uint32Array.from(TIER_SHARES_PERCENT, (percent) => Math.ceil((activated * percent) / (100 * MILLION)));
}

/** A share in millionths; at least one, so that no share above 0 turns into none. */
function millionths(share: number): number {
  return Math.max(1, Math.round(share * MILLION));
}
