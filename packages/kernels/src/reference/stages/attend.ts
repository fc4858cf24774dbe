import { attend as attendGroup } from "@pariskv/quantizer";
import { Widened } from "../../dense/widened.js";
import { BUDGET, MODE, STATS, STATS_FIELDS } from "../../layout.js";
import { KvSpans } from "../kv-spans.js";
import type { ReferencePlan } from "../reference-plan.js";
import { positionOf, type RowsView, type StepView, slotOf } from "../views.js";

const widened = new Widened();

/** Softmax attention over sink, ring and the selected keys, or over everything in mode dense. */
export function attend(plan: ReferencePlan, layer: number, step: StepView, q: RowsView, out: RowsView): void {
  const { cache } = plan;
  const { kvHeads, queryGroup, headDim } = cache.params;
  const logSums = new Float32Array(queryGroup);
  for (let row = 0; row < step.rowCount; row++) {
    const slot = slotOf(step, row);
    const outputOffset = row * out.rowStride;
    if (slot < 0) {
      out.data.fill(0, outputOffset, outputOffset + cache.queryHeads * headDim);
      continue;
    }
    const dense = cache.budget(slot, layer, BUDGET.MODE) === MODE.DENSE;
    for (let head = 0; head < kvHeads; head++) {
      const selected = dense ? undefined : selectedKeys(plan, layer, row, head);
      const spans = visibleSpans(plan, layer, slot, head, positionOf(step, row), selected);
      attendGroup({
        headDim,
        queries: q.data,
        queriesOffset: row * q.rowStride + head * queryGroup * headDim,
        queryHeads: queryGroup,
        segments: [{ records: spans.widenInto(widened), tokens: spans.tokens }],
        output: out.data,
        outputOffset: outputOffset + head * queryGroup * headDim,
        logSums,
        logSumsOffset: 0,
      });
      for (let groupHead = 0; groupHead < queryGroup; groupHead++) {
        const at = (plan.countIndex(layer, row, head) * queryGroup + groupHead) * STATS_FIELDS;
        plan.stats[at + STATS.LSE_ATTENDED] = logSums[groupHead]!;
        if (!dense) continue;
        plan.stats[at + STATS.LSE_UNSELECTED] = Number.NEGATIVE_INFINITY;
        plan.stats[at + STATS.LSE_OTHERS] = Number.NEGATIVE_INFINITY;
      }
    }
  }
}

/** The keys that were selected for one row and KV head. */
function selectedKeys(plan: ReferencePlan, layer: number, row: number, head: number): Uint32Array {
  const first = (row * plan.cache.params.kvHeads + head) * plan.params.maxTopK;
  return plan.selected.subarray(first, first + plan.selectedCount[plan.countIndex(layer, row, head)]!);
}

/** What one row sees: all positions, or sink, the `selected` keys and ring. */
function visibleSpans(
  plan: ReferencePlan,
  layer: number,
  slot: number,
  head: number,
  position: number,
  selected: Uint32Array | undefined,
): KvSpans {
  const { cache } = plan;
  const end = position + 1;
  const spans = new KvSpans(cache, slot, layer, head);
  if (selected === undefined) return spans.addPositions(0, end);
  spans.addWindow(0, Math.min(end, cache.params.sinkTokens));
  for (const key of selected) spans.addZone(key, 1);
  return spans.addWindow(cache.params.sinkTokens + cache.zoneTokens[slot]!, end);
}
