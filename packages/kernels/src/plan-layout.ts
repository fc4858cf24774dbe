import { CENTROIDS, SUBSPACE_DIM } from "@pariskv/quantizer";
import type { Group, PlanField } from "./context.js";
import { STATS_FIELDS } from "./layout.js";

/** Workspaces begin at multiples of this many bytes. */
const ALIGN_BYTES = 64;

/** What sizes a plan's workspaces. */
export interface PlanShape {
  readonly layers: number;
  readonly kvHeads: number;
  readonly queryGroup: number;
  readonly headDim: number;
  readonly group: Group;
  readonly maxRows: number;
  readonly maxZoneTokens: number;
  readonly maxCandidates: number;
  readonly maxTopK: number;
}

/** Where one workspace lies among the others. */
export interface PlanFieldLayout {
  readonly offsetBytes: number;
  readonly bytes: number;
}

/** Rotated queries of a KV head: one for the mean, or one for each query head. */
export function rotatedQueries(group: Group, queryGroup: number): number {
  return group === "mean" ? 1 : queryGroup;
}

/** Vote tables of a KV head: one, or one for each query head where the largest score counts. */
export function voteTables(group: Group, queryGroup: number): number {
  return group === "max" ? queryGroup : 1;
}

/** The workspaces of a plan, one after the other, without what a backend takes for itself beside them. */
export function planLayout(shape: PlanShape): { fields: Readonly<Record<PlanField, PlanFieldLayout>>; bytes: number } {
  const { layers, kvHeads, queryGroup, headDim, group, maxRows, maxZoneTokens, maxCandidates, maxTopK } = shape;
  const heads = maxRows * kvHeads;
  const queries = rotatedQueries(group, queryGroup);
  const sizes: Record<PlanField, number> = {
    rotated: heads * queries * headDim * 4,
    tables: heads * voteTables(group, queryGroup) * (headDim / SUBSPACE_DIM) * CENTROIDS,
    scores: heads * maxZoneTokens * 2,
    candidates: heads * maxCandidates * 4,
    candidateCount: layers * heads * 4,
    estimates: heads * queries * maxCandidates * 4,
    priorities: heads * maxCandidates * 4,
    selected: heads * maxTopK * 4,
    selectedCount: layers * heads * 4,
    stats: layers * heads * queryGroup * STATS_FIELDS * 4,
    hotHits: layers * heads * 4,
  };
  const fields = {} as Record<PlanField, PlanFieldLayout>;
  let offsetBytes = 0;
  for (const name of Object.keys(sizes) as PlanField[]) {
    fields[name] = { offsetBytes, bytes: sizes[name] };
    offsetBytes += Math.ceil(sizes[name] / ALIGN_BYTES) * ALIGN_BYTES;
  }
  return { fields, bytes: offsetBytes };
}
