import { CENTROIDS, NO_SCORE, PAGE_TOKENS } from "@pariskv/quantizer";
import type { ReferenceCache } from "../reference-cache.js";
import { excludeInvalidKeysOfPage } from "./invalid-keys.js";

/** Makes a page retrievable: adds its id and invalid-key counts, and moves the end of the zone behind it. */
export function commit(cache: ReferenceCache, slot: number, pageIndex: number, pageId: number): void {
  const { layers, kvHeads } = cache.params;
  const { subspaces } = cache.quantizer;
  const marks = new Uint16Array(PAGE_TOKENS);
  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head < kvHeads; head++) {
      const entry = cache.headIndex(slot, layer, head);
      const summary = cache.summary(pageId, layer, head);
      marks.fill(0);
      const invalid = excludeInvalidKeysOfPage(cache, summary, PAGE_TOKENS, marks, 0);
      cache.invalidKeys[entry] = cache.invalidKeys[entry]! + invalid;
      if (cache.idCounts === undefined) continue;
      for (let b = 0; b < subspaces; b++) {
        const row = (entry * subspaces + b) * CENTROIDS;
        for (let token = 0; token < PAGE_TOKENS; token++) {
          if (marks[token] === NO_SCORE) continue;
          const counter = row + summary[b * PAGE_TOKENS + token]!;
          cache.idCounts[counter] = cache.idCounts[counter]! + 1;
        }
      }
    }
  }
  cache.zoneTokens[slot] = (pageIndex + 1) * PAGE_TOKENS;
}
