import { InvalidArgumentError } from "../errors.js";
import type { Quantizer } from "../quantizer.js";
import { PAGE_TOKENS, SUBSPACE_DIM, summaryLayout } from "../spec.js";
import { requireInteger, requireLength } from "../validate.js";
import { DECODED_WEIGHTS } from "../weight-byte.js";
import type { GroupPolicy } from "./probe.js";

/**
 * Estimates ⟨k', q'⟩ = Σ_b w_b · ⟨v_b, q̃_b⟩ for candidates and rotated queries (step 5 of section 3 of the algorithm).
 *
 * `pages` holds one `[headPageBytes] u8` view a page, in the layout of `summaryLayout`; candidate c is slot
 * `c % PAGE_TOKENS` of page `floor(c / PAGE_TOKENS)`. `candidates` is `[candidateCount] u32`, `rotated` is
 * `[rotatedCount, headDim] f32`. Writes `estimates`, `[rotatedCount, candidateCount] f32`, each summed in f64.
 *
 * @throws InvalidArgumentError when an array is too short or a candidate lies beyond the last page.
 */
export function estimate(
  quantizer: Quantizer,
  pages: readonly Uint8Array[],
  candidates: Uint32Array,
  candidateCount: number,
  rotated: Float32Array,
  rotatedCount: number,
  estimates: Float32Array,
): void {
  const { headDim, subspaces } = quantizer;
  const { values } = quantizer.levels;
  const layout = summaryLayout(headDim);
  requireLength("candidates", candidates, candidateCount);
  requireLength("rotated", rotated, rotatedCount * headDim);
  requireLength("estimates", estimates, rotatedCount * candidateCount);
  for (let position = 0; position < candidateCount; position++) {
    const candidate = candidates[position]!;
    const page = pages[Math.floor(candidate / PAGE_TOKENS)];
    if (page === undefined) {
      const expected = `an index into ${pages.length} pages`;
      throw new InvalidArgumentError({ argument: "candidate", expected, received: candidate });
    }
    const slot = candidate % PAGE_TOKENS;
    const codesAt = layout.codesOffsetBytes + slot * (headDim / 2);
    const weightsAt = layout.weightsOffsetBytes + slot * subspaces;
    for (let query = 0; query < rotatedCount; query++) {
      let total = 0;
      for (let b = 0; b < subspaces; b++) {
        let codeAt = codesAt + (b * SUBSPACE_DIM) / 2;
        const from = query * headDim + b * SUBSPACE_DIM;
        let product = 0;
        for (let j = from; j < from + SUBSPACE_DIM; j += 2) {
          const pair = page[codeAt]!;
          codeAt += 1;
          product += values[pair & 15]! * rotated[j]! + values[pair >>> 4]! * rotated[j + 1]!;
        }
        total += DECODED_WEIGHTS[page[weightsAt + b]!]! * product;
      }
      estimates[query * candidateCount + position] = total;
    }
  }
}

/**
 * The natural logarithm of Σ exp(scale · values[i]) over `count` values from `offset` on, f64; values that are not finite
 * are left out, and -Infinity is the sum of nothing.
 */
export function logSumExp(values: Float32Array, offset: number, count: number, scale: number): number {
  let greatest = Number.NEGATIVE_INFINITY;
  for (let i = offset; i < offset + count; i++) {
    const value = scale * values[i]!;
    if (value > greatest && value < Number.POSITIVE_INFINITY) greatest = value;
  }
  if (greatest === Number.NEGATIVE_INFINITY) return greatest;
  let total = 0;
  for (let i = offset; i < offset + count; i++) {
    const value = scale * values[i]!;
    if (value <= greatest) total += Math.exp(value - greatest);
  }
  return greatest + Math.log(total);
}

/**
 * Turns the estimates of a group, `[rotatedCount, candidateCount] f32`, into one priority a candidate (section 4 of the
 * algorithm), `priorities` `[candidateCount] f64`.
 *
 * One rotated query: the estimate itself. Several: the softmax-normalised estimates of the heads, combined by `max` (in
 * the logarithm, which keeps the order) or by `sum`. A head without a finite estimate has no say; a candidate without a
 * priority gets -Infinity. `logSums`, `[rotatedCount] f64`, receives the log-sum-exp of each head.
 *
 * @throws InvalidArgumentError when an array is too short.
 */
export function prioritize(
  group: GroupPolicy,
  estimates: Float32Array,
  rotatedCount: number,
  candidateCount: number,
  scale: number,
  logSums: Float64Array,
  priorities: Float64Array,
): void {
  requireLength("estimates", estimates, rotatedCount * candidateCount);
  requireLength("logSums", logSums, rotatedCount);
  requireLength("priorities", priorities, candidateCount);
  for (let query = 0; query < rotatedCount; query++) {
    logSums[query] = logSumExp(estimates, query * candidateCount, candidateCount, scale);
  }
  for (let position = 0; position < candidateCount; position++) {
    let priority = Number.NEGATIVE_INFINITY;
    if (rotatedCount === 1) {
      priority = estimates[position]!;
    } else {
      let total = 0;
      for (let query = 0; query < rotatedCount; query++) {
        const logSum = logSums[query]!;
        if (logSum === Number.NEGATIVE_INFINITY) continue;
        const share = scale * estimates[query * candidateCount + position]! - logSum;
        total += Math.exp(share);
        if (share > priority) priority = share;
      }
      if (group === "sum") priority = total;
    }
    priorities[position] = Number.isFinite(priority) ? priority : Number.NEGATIVE_INFINITY;
  }
}

/**
 * Keeps the `retrievalK` candidates of highest priority, ties to the smaller index, and returns their number: all of them
 * when there are fewer.
 *
 * `priorities` is `[candidateCount] f64` without NaN, `candidates` `[candidateCount] u32` ascending. Writes the kept
 * indices ascending to `selected`, u32.
 *
 * @throws InvalidArgumentError when an array is too short.
 */
export function keepTop(
  priorities: Float64Array,
  candidates: Uint32Array,
  candidateCount: number,
  retrievalK: number,
  selected: Uint32Array,
): number {
  const kept = Math.min(retrievalK, candidateCount);
  requireInteger("retrievalK", retrievalK, 0, 2 ** 32 - 1);
  requireLength("priorities", priorities, candidateCount);
  requireLength("candidates", candidates, candidateCount);
  requireLength("selected", selected, kept);
  if (kept === 0) return 0;
  const ascending = priorities.slice(0, candidateCount).sort();
  const threshold = ascending[candidateCount - kept]!;
  let above = 0;
  while (above < kept && ascending[candidateCount - 1 - above]! > threshold) above += 1;
  let atThreshold = kept - above;
  let found = 0;
  for (let position = 0; position < candidateCount; position++) {
    const priority = priorities[position]!;
    if (priority < threshold) continue;
    if (priority === threshold) {
      if (atThreshold === 0) continue;
      atThreshold -= 1;
    }
    selected[found] = candidates[position]!;
    found += 1;
  }
  return found;
}

/** What `rerank` reads and writes. */
export interface RerankParameters {
  readonly quantizer: Quantizer;
  /** One `[headPageBytes] u8` view a page, in the layout of `summaryLayout`. */
  readonly pages: readonly Uint8Array[];
  readonly group: GroupPolicy;
  /** `[rotatedCount, headDim] f32` of `probe`. */
  readonly rotated: Float32Array;
  readonly rotatedCount: number;
  /** `[candidateCount] u32`, ascending. */
  readonly candidates: Uint32Array;
  readonly candidateCount: number;
  /** K, the keys to keep. */
  readonly retrievalK: number;
  /** Written: `[rotatedCount, candidateCount] f32`. */
  readonly estimates: Float32Array;
  /** Written: `[rotatedCount] f64`. */
  readonly logSums: Float64Array;
  /** Written: `[candidateCount] f64`. */
  readonly priorities: Float64Array;
  /** Written: the kept indices, ascending, u32. */
  readonly selected: Uint32Array;
}

/**
 * Estimates every candidate, combines the query heads of the group and keeps the best `retrievalK` (step 5 of section 3
 * of the algorithm); returns how many were kept. The logits' scale is 1 / sqrt(headDim).
 *
 * @throws InvalidArgumentError when an array is too short or a candidate lies beyond the last page.
 */
export function rerank(parameters: RerankParameters): number {
  const { quantizer, rotatedCount, candidates, candidateCount, estimates, logSums, priorities } = parameters;
  estimate(quantizer, parameters.pages, candidates, candidateCount, parameters.rotated, rotatedCount, estimates);
  const scale = 1 / Math.sqrt(quantizer.headDim);
  prioritize(parameters.group, estimates, rotatedCount, candidateCount, scale, logSums, priorities);
  return keepTop(priorities, candidates, candidateCount, parameters.retrievalK, parameters.selected);
}
