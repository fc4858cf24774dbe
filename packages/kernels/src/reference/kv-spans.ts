import { PAGE_TOKENS } from "@pariskv/quantizer";
import type { KvSpan } from "../dense/attend-causal.js";
import type { Widened } from "../dense/widened.js";
import type { ReferenceCache } from "./reference-cache.js";
import type { Place } from "./reference-memory.js";

/** Where records of one slot, layer and KV head lie; nothing is copied. */
export class KvSpans {
  readonly spans: KvSpan[] = [];
  /** Records of all spans. */
  tokens = 0;

  constructor(
    readonly cache: ReferenceCache,
    readonly slot: number,
    readonly layer: number,
    readonly head: number,
  ) {}

  /** Positions `[begin, end)` of the sequence, in order, wherever they lie. */
  addPositions(begin: number, end: number): this {
    const { sinkTokens } = this.cache.params;
    const zoneEnd = sinkTokens + this.cache.zoneTokens[this.slot]!;
    this.addWindow(begin, Math.min(end, sinkTokens));
    let at = Math.max(begin, sinkTokens);
    while (at < Math.min(end, zoneEnd)) {
      const token = at - sinkTokens;
      const count = Math.min(Math.min(end, zoneEnd) - at, PAGE_TOKENS - (token % PAGE_TOKENS));
      this.addZone(token, count);
      at += count;
    }
    return this.addWindow(Math.max(begin, zoneEnd), end);
  }

  /** Positions `[begin, end)`, in order, which are all in the sink or all in the ring. */
  addWindow(begin: number, end: number): this {
    const { sinkTokens, ringTokens } = this.cache.params;
    const window = this.cache.window(this.slot, this.layer, this.head);
    for (let at = begin; at < end; ) {
      const row = this.cache.windowRow(at);
      const count = Math.min(end - at, sinkTokens + ringTokens - row);
      this.#add(window, row, count);
      at += count;
    }
    return this;
  }

  /** `count` tokens of the retrieval zone from `token` on, all in one page. */
  addZone(token: number, count: number): this {
    const pageId = this.cache.pageId(this.slot, Math.floor(token / PAGE_TOKENS));
    this.#add(this.cache.records(pageId, this.layer, this.head), token % PAGE_TOKENS, count);
    return this;
  }

  /** Copies all records side by side into `widened`, `[tokens, 2, headDim] f32`. */
  widenInto(widened: Widened): Float32Array {
    const { headDim, kvDtype } = this.cache.params;
    widened.reserve(this.tokens * 2 * headDim);
    let at = 0;
    for (const { data, offset, tokens } of this.spans) {
      widened.widen({ data, dtype: kvDtype }, offset, tokens * 2 * headDim, at);
      at += tokens * 2 * headDim;
    }
    return widened.f32;
  }

  #add({ storage, offsetBytes }: Place, record: number, tokens: number): void {
    const { headDim, kvDtype } = this.cache.params;
    const data = kvDtype === "f32" ? storage.f32 : storage.u16;
    this.spans.push({ data, offset: offsetBytes / data.BYTES_PER_ELEMENT + record * 2 * headDim, tokens });
    this.tokens += tokens;
  }
}
