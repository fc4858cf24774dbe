import { PAGE_TOKENS, requireInteger } from "@pariskv/quantizer";

/**
 * Where a sequence's tokens live: the first `sinkTokens` in the sink, the newest `localTokens` (at least) in the ring,
 * what lies between them in sealed pages of 512 tokens (section 1 of the algorithm).
 */
export interface ZoneShape {
  /** First tokens, always attended. */
  readonly sinkTokens: number;
  /** Newest tokens that are always attended. */
  readonly localTokens: number;
  /** Most tokens that one step appends to a sequence; the ring has room for two such steps before the flush. */
  readonly chunkTokens: number;
}

/** How many tokens of a sequence lie in each zone. */
export interface ZoneCounts {
  readonly sink: number;
  /** Tokens of the retrieval zone. */
  readonly zone: number;
  readonly ring: number;
}

const MOST_TOKENS = 2 ** 20;

/** Refuses shapes that cannot work. Throws InvalidArgumentError. */
export function checkZones(zones: ZoneShape): void {
  requireInteger("zones.sinkTokens", zones.sinkTokens, 0, MOST_TOKENS);
  requireInteger("zones.localTokens", zones.localTokens, 1, MOST_TOKENS);
  requireInteger("zones.chunkTokens", zones.chunkTokens, 1, MOST_TOKENS);
}

/**
 * Rows of the ring: a full local window and update buffer, one token short of a flush, and two chunks: one that is appended
 * while pages of the one before it are on their way out.
 */
export function ringTokens(zones: ZoneShape): number {
  return zones.localTokens + PAGE_TOKENS - 1 + 2 * zones.chunkTokens;
}

/**
 * Pages that a sequence of `tokens` has sealed: whenever the ring holds localTokens + 512, its oldest 512 become a page.
 * A function of the length alone, so that prefill in chunks, decoding and prefix sharing agree.
 */
export function sealedPages(zones: ZoneShape, tokens: number): number {
  return Math.max(0, Math.floor((tokens - zones.sinkTokens - zones.localTokens) / PAGE_TOKENS));
}

/** Splits `tokens` with `zoneTokens` committed ones into the three zones. */
export function zoneCounts(zones: ZoneShape, tokens: number, zoneTokens: number): ZoneCounts {
  const sink = Math.min(tokens, zones.sinkTokens);
  return { sink, zone: zoneTokens, ring: tokens - sink - zoneTokens };
}
