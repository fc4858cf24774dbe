import { probe as probeGroup } from "@pariskv/quantizer";
import { BUDGET, MODE } from "../../layout.js";
import type { ReferencePlan } from "../reference-plan.js";
import { type RowsView, type StepView, slotOf } from "../views.js";

const NO_COUNTS = new Uint32Array(0);

/** Rotates the queries of every KV head and makes its vote tables. q: `[rows, queryHeads, headDim] f32`. */
export function probe(plan: ReferencePlan, layer: number, step: StepView, q: RowsView): void {
  const { cache, rotatedQueries, tableCount } = plan;
  const { kvHeads, queryGroup, headDim } = cache.params;
  const { votes, group } = plan.params;
  const rotatedLength = rotatedQueries * headDim;
  const countsLength = (headDim / 8) * 256;
  const tablesLength = tableCount * countsLength;
  for (let row = 0; row < step.rowCount; row++) {
    const slot = slotOf(step, row);
    if (slot < 0 || cache.budget(slot, layer, BUDGET.MODE) === MODE.DENSE) continue;
    for (let head = 0; head < kvHeads; head++) {
      const entry = row * kvHeads + head;
      const counts = cache.headIndex(slot, layer, head) * countsLength;
      probeGroup({
        quantizer: cache.quantizer,
        calibration: cache.calibration(layer, head),
        queries: q.data,
        queriesOffset: row * q.rowStride + head * queryGroup * headDim,
        groupHeads: queryGroup,
        votes,
        group,
        idCounts: cache.idCounts?.subarray(counts, counts + countsLength) ?? NO_COUNTS,
        tierLimits: cache.tierLimits(slot, layer),
        rotated: plan.rotated.subarray(entry * rotatedLength, (entry + 1) * rotatedLength),
        tables: plan.tables.subarray(entry * tablesLength, (entry + 1) * tablesLength),
      });
    }
  }
}
