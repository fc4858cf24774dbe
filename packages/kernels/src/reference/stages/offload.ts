import { PAGE_TOKENS } from "@pariskv/quantizer";
import type { ReferenceCache } from "../reference-cache.js";

/** Copies the records of the 512 tokens of a page from the ring into the page. */
export function offload(cache: ReferenceCache, slot: number, pageIndex: number, pageId: number): void {
  const { layers, kvHeads, sinkTokens, ringTokens } = cache.params;
  const row = cache.windowRow(sinkTokens + pageIndex * PAGE_TOKENS);
  const beforeWrap = Math.min(PAGE_TOKENS, sinkTokens + ringTokens - row);
  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head < kvHeads; head++) {
      const from = cache.window(slot, layer, head);
      const to = cache.records(pageId, layer, head);
      const copy = (firstRow: number, tokens: number, toToken: number) => {
        const start = from.offsetBytes + firstRow * cache.recordBytes;
        const bytes = from.storage.u8.subarray(start, start + tokens * cache.recordBytes);
        to.storage.u8.set(bytes, to.offsetBytes + toToken * cache.recordBytes);
      };
      copy(row, beforeWrap, 0);
      copy(sinkTokens, PAGE_TOKENS - beforeWrap, beforeWrap);
    }
  }
}
