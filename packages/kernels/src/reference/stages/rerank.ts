import { estimate, keepTop, leftOutLogSums, NO_SCORE, prioritize, rotate, SCORE_BINS } from "@pariskv/quantizer";
import { BUDGET, MODE, STATS, STATS_FIELDS } from "../../layout.js";
import type { ReferenceCache } from "../reference-cache.js";
import type { ReferencePlan } from "../reference-plan.js";
import { type StepView, slotOf } from "../views.js";

const histogram = new Uint32Array(SCORE_BINS);

/** Estimates of the candidates, the top K of every KV head, and where the plan asks for it the mass that is left out. */
export function rerank(plan: ReferencePlan, layer: number, step: StepView): void {
  const { cache } = plan;
  for (let row = 0; row < step.rowCount; row++) {
    const slot = slotOf(step, row);
    if (slot < 0 || cache.budget(slot, layer, BUDGET.MODE) === MODE.DENSE) continue;
    for (let head = 0; head < cache.params.kvHeads; head++) rerankHead(plan, layer, row, slot, head);
  }
}

function rerankHead(plan: ReferencePlan, layer: number, row: number, slot: number, head: number): void {
  const { cache, rotatedQueries } = plan;
  const { kvHeads, queryGroup, headDim } = cache.params;
  const { maxZoneTokens, maxCandidates, maxTopK } = plan.params;
  const entry = row * kvHeads + head;
  const countIndex = plan.countIndex(layer, row, head);
  const candidateCount = plan.candidateCount[countIndex]!;
  const candidates = plan.candidates.subarray(entry * maxCandidates, entry * maxCandidates + candidateCount);
  const rotated = plan.rotated.subarray(entry * rotatedQueries * headDim, (entry + 1) * rotatedQueries * headDim);
  const zoneTokens = plan.zoneTokens(slot);
  const scale = 1 / Math.sqrt(headDim);

  const estimates = new Float32Array(rotatedQueries * candidateCount);
  estimate(
    cache.quantizer,
    cache.summaries(slot, layer, head),
    candidates,
    candidateCount,
    rotated,
    rotatedQueries,
    estimates,
  );
  const headLogSums = new Float64Array(rotatedQueries);
  const priorities = new Float64Array(candidateCount);
  prioritize(plan.params.group, estimates, rotatedQueries, candidateCount, scale, headLogSums, priorities);
  // The workspace holds f32: the choice is made by what can be read there.
  plan.priorities.set(priorities, entry * maxCandidates);
  for (let i = 0; i < candidateCount; i++) priorities[i] = plan.priorities[entry * maxCandidates + i]!;
  const topK = Math.max(0, Math.min(cache.budget(slot, layer, BUDGET.TOP_K), maxTopK));
  const selected = plan.selected.subarray(entry * maxTopK, (entry + 1) * maxTopK);
  const selectedCount = keepTop(priorities, candidates, candidateCount, topK, selected);
  plan.selectedCount[countIndex] = selectedCount;
  for (let query = 0; query < rotatedQueries; query++) {
    const own = estimates.subarray(query * candidateCount, (query + 1) * candidateCount);
    plan.estimates.set(own, (entry * rotatedQueries + query) * maxCandidates);
  }
  const firstStats = countIndex * queryGroup * STATS_FIELDS;
  if (!plan.params.estimateMass) {
    for (let at = firstStats; at < firstStats + queryGroup * STATS_FIELDS; at += STATS_FIELDS) {
      plan.stats[at + STATS.LSE_UNSELECTED] = Number.NaN;
      plan.stats[at + STATS.LSE_OTHERS] = Number.NaN;
    }
    return;
  }

  // In mode scan every valid key is a candidate, and none was scored.
  const scored = cache.budget(slot, layer, BUDGET.MODE) === MODE.VOTE ? zoneTokens : 0;
  const scores = plan.scores.subarray(entry * maxZoneTokens, entry * maxZoneTokens + scored);
  histogram.fill(0);
  for (const score of scores) if (score !== NO_SCORE) histogram[score] = histogram[score]! + 1;
  for (let query = 0; query < rotatedQueries; query++) {
    const logSums = leftOutLogSums({
      estimates,
      estimatesOffset: query * candidateCount,
      scale,
      logitShift: scale * centringShift(cache, layer, head, rotated, query),
      candidates,
      candidateCount,
      selected,
      selectedCount,
      scores,
      histogram,
    });
    // One rotated query stands for all heads of the group.
    const first = rotatedQueries === 1 ? 0 : query;
    const last = rotatedQueries === 1 ? queryGroup - 1 : query;
    for (let groupHead = first; groupHead <= last; groupHead++) {
      const at = firstStats + groupHead * STATS_FIELDS;
      plan.stats[at + STATS.LSE_UNSELECTED] = logSums.unselected;
      plan.stats[at + STATS.LSE_OTHERS] = logSums.others;
    }
  }
}

/**
 * ⟨q, μ⟩, which centring takes from every estimate and which logits of the attended keys contain. In the rotated space
 * it is ⟨q̃, R(μ ⊘ D)⟩ (section 6 of the algorithm).
 */
function centringShift(
  cache: ReferenceCache,
  layer: number,
  head: number,
  rotated: Float32Array,
  query: number,
): number {
  const { headDim } = cache.params;
  const { center, balance } = cache.calibration(layer, head);
  const mean = center.map((value, j) => value / balance[j]!);
  rotate(mean, 0, cache.quantizer.signs, mean, 0);
  let shift = 0;
  for (let j = 0; j < headDim; j++) shift += mean[j]! * rotated[query * headDim + j]!;
  return shift;
}
