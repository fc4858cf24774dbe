import { encodeBfloat16, encodeFloat16 } from "@pariskv/quantizer";
import type { ReferenceCache } from "../reference-cache.js";
import { positionOf, type RowsView, type StepView, slotOf } from "../views.js";

/** Rounds K and V of each row to the cache's dtype and writes them to the window. k, v: `[rows, kvHeads, headDim] f32`. */
export function append(cache: ReferenceCache, layer: number, step: StepView, k: RowsView, v: RowsView): void {
  const { kvHeads, headDim } = cache.params;
  for (let row = 0; row < step.rowCount; row++) {
    const slot = slotOf(step, row);
    if (slot < 0) continue;
    const recordIndex = cache.windowRow(positionOf(step, row));
    for (let head = 0; head < kvHeads; head++) {
      const { storage, offsetBytes } = cache.window(slot, layer, head);
      const recordBytes = offsetBytes + recordIndex * cache.recordBytes;
      for (const [part, rows] of [k, v].entries()) {
        const from = row * rows.rowStride + head * headDim;
        const values = rows.data.subarray(from, from + headDim);
        if (cache.params.kvDtype === "f32") {
          storage.f32.set(values, recordBytes / 4 + part * headDim);
        } else {
          const at = recordBytes / 2 + part * headDim;
          const target = storage.u16.subarray(at, at + headDim);
          if (cache.params.kvDtype === "bf16") encodeBfloat16(values, target);
          else encodeFloat16(values, target);
        }
      }
    }
  }
}
