import { excludeInvalidKeys as excludeByCodes, PAGE_TOKENS, summaryLayout } from "@pariskv/quantizer";
import type { ReferenceCache } from "../reference-cache.js";

/** Gives NO_SCORE to the invalid keys among the first `tokens` of a page and returns their number. */
export function excludeInvalidKeysOfPage(
  cache: ReferenceCache,
  summary: Uint8Array,
  tokens: number,
  scores: Uint16Array,
  scoresOffset: number,
): number {
  const { headDim } = cache.params;
  const codes = summary.subarray(summaryLayout(headDim).codesOffsetBytes);
  return excludeByCodes(codes, headDim / 2, tokens, scores, scoresOffset);
}

/** Gives NO_SCORE to the invalid keys of a slot, layer and KV head; reads nothing where the cache counts none. */
export function excludeInvalidKeys(
  cache: ReferenceCache,
  slot: number,
  layer: number,
  head: number,
  zoneTokens: number,
  scores: Uint16Array,
): void {
  if (cache.invalidKeys[cache.headIndex(slot, layer, head)] === 0) return;
  for (let first = 0; first < zoneTokens; first += PAGE_TOKENS) {
    const summary = cache.summary(cache.pageId(slot, first / PAGE_TOKENS), layer, head);
    excludeInvalidKeysOfPage(cache, summary, Math.min(PAGE_TOKENS, zoneTokens - first), scores, first);
  }
}
