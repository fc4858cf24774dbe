import type { Calibration } from "../calibration.js";
import type { Quantizer } from "../quantizer.js";
import { CENTROIDS } from "../spec.js";
import { requireInteger, requireLength, requireOneOf } from "../validate.js";
import { rotate } from "./rotate.js";
import { gradedTables, tieredTables } from "./vote-tables.js";

/** How a vote table is made: by the paper's tiers, or by graded inner products (section 3 of the algorithm). */
export type VotePolicy = "tiered" | "graded";

/** How the query heads of a group share one retrieval (section 4): by their mean, or each by its own query. */
export type GroupPolicy = "mean" | "max" | "sum";

/** What `probe` reads and writes. */
export interface ProbeParameters {
  readonly quantizer: Quantizer;
  readonly calibration: Calibration;
  /** `[groupHeads, headDim] f32`, the query heads that share the KV head. */
  readonly queries: Float32Array;
  /** Where the first query begins, in elements. */
  readonly queriesOffset: number;
  readonly groupHeads: number;
  readonly votes: VotePolicy;
  readonly group: GroupPolicy;
  /** `[subspaces, CENTROIDS] u32`, the keys of each centroid; read by `tiered` only. */
  readonly idCounts: Uint32Array;
  /** `[6] u32` of `tierLimits`; read by `tiered` only. */
  readonly tierLimits: Uint32Array;
  /** Written: `[rotatedQueryCount, headDim] f32`. */
  readonly rotated: Float32Array;
  /** Written: `[voteTableCount, subspaces, CENTROIDS] u8`. */
  readonly tables: Uint8Array;
}

/** The rotated queries that a group of `groupHeads` query heads needs: one for `mean`, else one a head. */
export function rotatedQueryCount(group: GroupPolicy, groupHeads: number): number {
  return group === "mean" ? 1 : groupHeads;
}

/** The vote tables that a group of `groupHeads` query heads needs: one a head for `max`, else one. */
export function voteTableCount(group: GroupPolicy, groupHeads: number): number {
  return group === "max" ? groupHeads : 1;
}

/**
 * Rotates the queries of a group and makes their vote tables (step 2 of section 3 of the algorithm).
 *
 * @throws InvalidArgumentError when a policy is unknown or an array is too short.
 */
export function probe(parameters: ProbeParameters): void {
  const { quantizer, groupHeads, votes, group, rotated, tables } = parameters;
  const { headDim, subspaces, subspaceDim } = quantizer;
  requireOneOf("votes", votes, ["tiered", "graded"]);
  requireOneOf("group", group, ["mean", "max", "sum"]);
  requireOneOf("subspaceDim", subspaceDim, [8]);
  requireInteger("groupHeads", groupHeads, 1, 65536);
  requireLength("queries", parameters.queries, parameters.queriesOffset + groupHeads * headDim);
  const rotatedCount = rotatedQueryCount(group, groupHeads);
  requireLength("rotated", rotated, rotatedCount * headDim);
  requireLength("tables", tables, voteTableCount(group, groupHeads) * subspaces * CENTROIDS);

  rotateQueries(parameters);
  if (votes === "graded") {
    gradedTables(rotated, rotatedCount, subspaces, group === "sum", tables);
  } else {
    requireLength("idCounts", parameters.idCounts, subspaces * CENTROIDS);
    requireLength("tierLimits", parameters.tierLimits, 6);
    tieredTables(rotated, rotatedCount, subspaces, group === "sum", parameters.idCounts, parameters.tierLimits, tables);
  }
}

/** q' = D ∘ q for each head, averaged first under `mean`, then rotated; every operation rounds to f32. */
function rotateQueries(parameters: ProbeParameters): void {
  const { quantizer, calibration, queries, queriesOffset, groupHeads, group, rotated } = parameters;
  const { headDim, signs } = quantizer;
  const { balance } = calibration;
  const averaged = group === "mean";
  for (let head = 0; head < groupHeads; head++) {
    const from = queriesOffset + head * headDim;
    const to = averaged ? 0 : head * headDim;
    for (let j = 0; j < headDim; j++) {
      const balanced = Math.fround(balance[j]! * queries[from + j]!);
      rotated[to + j] = averaged && head > 0 ? rotated[to + j]! + balanced : balanced;
    }
  }
  if (averaged) {
    const share = Math.fround(1 / groupHeads);
    for (let j = 0; j < headDim; j++) rotated[j] = rotated[j]! * share;
  }
  for (let row = 0; row < rotatedQueryCount(group, groupHeads); row++) {
    rotate(rotated, row * headDim, signs, rotated, row * headDim);
  }
}
