import { candidateCount, paperShares, tierLimits } from "./budget.js";
import { estimateRetrievedMass, leftOutLogSums } from "./mass.js";
import { type AttentionSegment, attend } from "./reference/attend.js";
import { collide, excludeInvalidKeys } from "./reference/collide.js";
import { type GroupPolicy, probe, rotatedQueryCount, type VotePolicy, voteTableCount } from "./reference/probe.js";
import { rerank } from "./reference/rerank.js";
import { select } from "./reference/select.js";
import { CENTROIDS, PAGE_TOKENS, SCORE_BINS, summaryLayout } from "./spec.js";
import type { KeySummaries } from "./summarize.js";
import { requireInteger, requireLength } from "./validate.js";

/** What `retrieve` reads. */
export interface RetrieveOptions {
  readonly summaries: KeySummaries;
  /** Keys and values of the retrieval zone, `[tokens, 2, headDim] f32`. */
  readonly records: Float32Array;
  /** Keys and values that are always attended to, `[windowTokens, 2, headDim] f32`; none by default. */
  readonly windowRecords?: Float32Array;
  /** The query heads of the group, `[groupHeads, headDim] f32`. */
  readonly queries: Float32Array;
  readonly groupHeads: number;
  /** `graded` by default. */
  readonly votes?: VotePolicy;
  /** `max` by default. */
  readonly group?: GroupPolicy;
  /** K, the keys that are fetched; 100 by default. */
  readonly retrievalK?: number;
  /** β; the paper's share for this length by default. */
  readonly candidateShare?: number;
  /** ρ_c of `tiered`; the paper's share for this length by default. */
  readonly activatedShare?: number;
}

/** Every intermediate of one decode step for one KV head. */
export interface Retrieval {
  /** `[rotatedQueryCount, headDim] f32`. */
  readonly rotated: Float32Array;
  /** `[voteTableCount, subspaces, CENTROIDS] u8`. */
  readonly tables: Uint8Array;
  /** Collision scores, `[tokens] u16`. */
  readonly scores: Uint16Array;
  /** Valid keys of each score, `[SCORE_BINS] u32`. */
  readonly histogram: Uint32Array;
  /** Candidate indices, ascending, u32. */
  readonly candidates: Uint32Array;
  /** `[rotatedQueryCount, candidates] f32`. */
  readonly estimates: Float32Array;
  /** Log-sum-exp of the scaled estimates of each rotated query, f64. */
  readonly estimateLogSums: Float64Array;
  /** `[candidates] f64`. */
  readonly priorities: Float64Array;
  /** Indices of the fetched keys, ascending, u32. */
  readonly selected: Uint32Array;
  /** The attention output, `[groupHeads, headDim] f32`. */
  readonly output: Float32Array;
  /** Log-sum-exp of the logits attended to, `[groupHeads] f32`. */
  readonly logSums: Float32Array;
  /** The estimated retrieved mass of each query head, `[groupHeads] f64`. */
  readonly retrievedMass: Float64Array;
}

/**
 * One decode step of one KV head from query to attention output, all six stages of section 3 of the algorithm; returns
 * every intermediate.
 *
 * Under the group policy `mean` the estimates are those of the mean query, whose logits are flatter than any head's: the
 * retrieved mass of a head is then too high.
 *
 * @throws InvalidArgumentError when a policy is unknown, a share or count is out of range, or an array is too short.
 */
export function retrieve(options: RetrieveOptions): Retrieval {
  const { summaries, records, queries, groupHeads, votes = "graded", group = "max", retrievalK = 100 } = options;
  const { quantizer, calibration, tokens, pages, idCounts } = summaries;
  const { headDim, subspaces } = quantizer;
  const windowRecords = options.windowRecords ?? new Float32Array(0);
  requireInteger("groupHeads", groupHeads, 1, 65536);
  requireInteger("retrievalK", retrievalK, 0, 2 ** 26);
  requireLength("records", records, tokens * 2 * headDim);
  requireLength("queries", queries, groupHeads * headDim);
  const shares = paperShares(tokens);
  const wanted = candidateCount(tokens, options.candidateShare ?? shares.candidateShare);

  const rotatedCount = rotatedQueryCount(group, groupHeads);
  const tableCount = voteTableCount(group, groupHeads);
  const rotated = new Float32Array(rotatedCount * headDim);
  const tables = new Uint8Array(tableCount * subspaces * CENTROIDS);
  probe({
    quantizer,
    calibration,
    queries,
    queriesOffset: 0,
    groupHeads,
    votes,
    group,
    idCounts,
    tierLimits: tierLimits(tokens, options.activatedShare ?? shares.activatedShare),
    rotated,
    tables,
  });

  const scores = scoreKeys(summaries, tables, tableCount);
  const histogram = new Uint32Array(SCORE_BINS);
  const found = new Uint32Array(wanted);
  const candidates = found.subarray(0, select(scores, tokens, wanted, histogram, found));

  const estimates = new Float32Array(rotatedCount * candidates.length);
  const estimateLogSums = new Float64Array(rotatedCount);
  const priorities = new Float64Array(candidates.length);
  const kept = new Uint32Array(Math.min(retrievalK, candidates.length));
  const selectedCount = rerank({
    quantizer,
    pages,
    group,
    rotated,
    rotatedCount,
    candidates,
    candidateCount: candidates.length,
    retrievalK,
    estimates,
    logSums: estimateLogSums,
    priorities,
    selected: kept,
  });
  const selected = kept.subarray(0, selectedCount);

  const output = new Float32Array(groupHeads * headDim);
  const logSums = new Float32Array(groupHeads);
  const segments: AttentionSegment[] = [
    { records: windowRecords, tokens: windowRecords.length / (2 * headDim) },
    { records: gatherRecords(records, headDim, selected), tokens: selected.length },
  ];
  attend({
    headDim,
    queries,
    queriesOffset: 0,
    queryHeads: groupHeads,
    segments,
    output,
    outputOffset: 0,
    logSums,
    logSumsOffset: 0,
  });

  const scale = 1 / Math.sqrt(headDim);
  const retrievedMass = Float64Array.from(logSums, (attendedLogSum, head) =>
    estimateRetrievedMass(
      attendedLogSum,
      leftOutLogSums({
        estimates,
        estimatesOffset: Math.min(head, rotatedCount - 1) * candidates.length,
        scale,
        logitShift: scale * dot(queries, head * headDim, calibration.center),
        candidates,
        candidateCount: candidates.length,
        selected,
        selectedCount,
        scores,
        histogram,
      }),
    ),
  );
  return {
    rotated,
    tables,
    scores,
    histogram,
    candidates,
    estimates,
    estimateLogSums,
    priorities,
    selected,
    output,
    logSums,
    retrievedMass,
  };
}

/** Collision scores of all keys, `[tokens] u16`, page by page. */
function scoreKeys(summaries: KeySummaries, tables: Uint8Array, tableCount: number): Uint16Array {
  const { quantizer, tokens, pages, invalidKeys } = summaries;
  const { subspaces, headDim } = quantizer;
  const layout = summaryLayout(headDim);
  const scores = new Uint16Array(tokens);
  pages.forEach((page, index) => {
    const from = index * PAGE_TOKENS;
    const rows = Math.min(PAGE_TOKENS, tokens - from);
    const ids = page.subarray(layout.idsOffsetBytes, layout.codesOffsetBytes);
    collide(ids, tables, tableCount, subspaces, rows, PAGE_TOKENS, scores, from);
    if (invalidKeys[index]! > 0) {
      const codes = page.subarray(layout.codesOffsetBytes, layout.weightsOffsetBytes);
      excludeInvalidKeys(codes, headDim / 2, rows, scores, from);
    }
  });
  return scores;
}

/** The records of the given tokens, one after another, `[indices, 2, headDim] f32`. */
function gatherRecords(records: Float32Array, headDim: number, indices: Uint32Array): Float32Array {
  const length = 2 * headDim;
  const gathered = new Float32Array(indices.length * length);
  indices.forEach((token, row) => {
    gathered.set(records.subarray(token * length, (token + 1) * length), row * length);
  });
  return gathered;
}

function dot(queries: Float32Array, offset: number, vector: Float32Array): number {
  return vector.reduce((total, value, j) => total + queries[offset + j]! * value, 0);
}
