import { collide as collidePage, PAGE_TOKENS } from "@pariskv/quantizer";
import { BUDGET, MODE } from "../../layout.js";
import type { ReferencePlan } from "../reference-plan.js";
import { type StepView, slotOf } from "../views.js";
import { excludeInvalidKeys } from "./invalid-keys.js";

/** Votes of every key of the zone, page by page, for the rows in mode vote. */
export function collide(plan: ReferencePlan, layer: number, step: StepView): void {
  const { cache, tableCount } = plan;
  const { kvHeads } = cache.params;
  const { subspaces } = cache.quantizer;
  const tablesLength = tableCount * subspaces * 256;
  for (let row = 0; row < step.rowCount; row++) {
    const slot = slotOf(step, row);
    if (slot < 0 || cache.budget(slot, layer, BUDGET.MODE) !== MODE.VOTE) continue;
    const zoneTokens = plan.zoneTokens(slot);
    for (let head = 0; head < kvHeads; head++) {
      const entry = row * kvHeads + head;
      const tables = plan.tables.subarray(entry * tablesLength, (entry + 1) * tablesLength);
      const start = entry * plan.params.maxZoneTokens;
      const scores = plan.scores.subarray(start, start + plan.params.maxZoneTokens);
      for (let first = 0; first < zoneTokens; first += PAGE_TOKENS) {
        const ids = cache.summary(cache.pageId(slot, first / PAGE_TOKENS), layer, head);
        const tokens = Math.min(PAGE_TOKENS, zoneTokens - first);
        collidePage(ids, tables, tableCount, subspaces, tokens, PAGE_TOKENS, scores, first);
      }
      excludeInvalidKeys(cache, slot, layer, head, zoneTokens, scores);
    }
  }
}
