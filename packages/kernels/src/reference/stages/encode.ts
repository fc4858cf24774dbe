import { CENTROIDS, encodePage, PAGE_TOKENS } from "@pariskv/quantizer";
import { Widened } from "../../dense/widened.js";
import { KvSpans } from "../kv-spans.js";
import type { ReferenceCache } from "../reference-cache.js";

const widened = new Widened();

/** Summaries of the 512 tokens of a page, which are in the slot's ring, for all layers and heads. */
export function encode(cache: ReferenceCache, slot: number, pageIndex: number, pageId: number): void {
  const { layers, kvHeads, headDim, sinkTokens } = cache.params;
  const { subspaces } = cache.quantizer;
  const begin = sinkTokens + pageIndex * PAGE_TOKENS;
  const discardedCounts = new Uint32Array(subspaces * CENTROIDS);
  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head < kvHeads; head++) {
      const spans = new KvSpans(cache, slot, layer, head).addWindow(begin, begin + PAGE_TOKENS);
      encodePage(
        cache.quantizer,
        cache.calibration(layer, head),
        spans.widenInto(widened),
        0,
        2 * headDim,
        PAGE_TOKENS,
        cache.summary(pageId, layer, head),
        discardedCounts,
      );
    }
  }
}
