import { attendCausal as attendGroup } from "../../dense/index.js";
import { KvSpans } from "../kv-spans.js";
import type { ReferenceCache } from "../reference-cache.js";
import { positionOf, type RowsView, type StepView, slotOf } from "../views.js";

/** Causal attention of rows `firstRow .. firstRow + rowCount`, at consecutive positions of one slot. */
export function attendCausal(
  cache: ReferenceCache,
  layer: number,
  step: StepView,
  firstRow: number,
  rowCount: number,
  q: RowsView,
  out: RowsView,
): void {
  const { kvHeads, queryGroup, headDim, kvDtype } = cache.params;
  const slot = slotOf(step, firstRow);
  if (slot < 0) {
    for (let row = firstRow; row < firstRow + rowCount; row++) {
      out.data.fill(0, row * out.rowStride, row * out.rowStride + cache.queryHeads * headDim);
    }
    return;
  }
  const firstPosition = positionOf(step, firstRow);
  for (let head = 0; head < kvHeads; head++) {
    const at = (rows: RowsView) => ({
      data: rows.data,
      offset: firstRow * rows.rowStride + head * queryGroup * headDim,
      rowStride: rows.rowStride,
    });
    attendGroup({
      spans: new KvSpans(cache, slot, layer, head).addPositions(0, firstPosition + rowCount).spans,
      dtype: kvDtype,
      headDim,
      queryGroup,
      firstPosition,
      rowCount,
      q: at(q),
      out: at(out),
    });
  }
}
