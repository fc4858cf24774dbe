import { SCORE_BINS, select as selectCandidates } from "@pariskv/quantizer";
import { BUDGET, MODE } from "../../layout.js";
import type { ReferencePlan } from "../reference-plan.js";
import { type StepView, slotOf } from "../views.js";
import { excludeInvalidKeys } from "./invalid-keys.js";

const histogram = new Uint32Array(SCORE_BINS);

/** The candidates of every KV head: those of highest score, or in mode scan all valid keys. */
export function select(plan: ReferencePlan, layer: number, step: StepView): void {
  const { cache } = plan;
  const { kvHeads } = cache.params;
  const { maxZoneTokens, maxCandidates } = plan.params;
  for (let row = 0; row < step.rowCount; row++) {
    const slot = slotOf(step, row);
    if (slot < 0) continue;
    const mode = cache.budget(slot, layer, BUDGET.MODE);
    if (mode === MODE.DENSE) continue;
    const zoneTokens = plan.zoneTokens(slot);
    const budget = Math.max(0, cache.budget(slot, layer, BUDGET.CANDIDATES));
    const wanted = mode === MODE.SCAN ? maxCandidates : Math.min(budget, maxCandidates);
    for (let head = 0; head < kvHeads; head++) {
      const entry = row * kvHeads + head;
      const scores = plan.scores.subarray(entry * maxZoneTokens, (entry + 1) * maxZoneTokens);
      if (mode === MODE.SCAN) {
        // Nobody has voted: with equal scores the candidates are the valid keys in order.
        scores.fill(0, 0, zoneTokens);
        excludeInvalidKeys(cache, slot, layer, head, zoneTokens, scores);
      }
      const candidates = plan.candidates.subarray(entry * maxCandidates, (entry + 1) * maxCandidates);
      plan.candidateCount[plan.countIndex(layer, row, head)] = selectCandidates(
        scores,
        zoneTokens,
        wanted,
        histogram,
        candidates,
      );
    }
  }
}
