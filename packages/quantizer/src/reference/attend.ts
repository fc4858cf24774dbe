import { requireInteger, requireLength } from "../validate.js";

/** Rows of records that attention reads: the window's sink, its ring, and the fetched keys are one each. */
export interface AttentionSegment {
  /** `[tokens, 2, headDim] f32`, key and value of one token side by side. */
  readonly records: Float32Array;
  readonly tokens: number;
}

/** What `attend` reads and writes. */
export interface AttendParameters {
  readonly headDim: number;
  /** `[queryHeads, headDim] f32`, not rotated and not calibrated. */
  readonly queries: Float32Array;
  /** Where the first query begins, in elements. */
  readonly queriesOffset: number;
  readonly queryHeads: number;
  /** Everything attended to, in any order. */
  readonly segments: readonly AttentionSegment[];
  /** Written: `[queryHeads, headDim] f32`, from `outputOffset` on. */
  readonly output: Float32Array;
  /** Where the first output row begins, in elements. */
  readonly outputOffset: number;
  /** Written: the log-sum-exp of the logits, `[queryHeads] f32`, from `logSumsOffset` on. */
  readonly logSums: Float32Array;
  /** Where the first log-sum-exp goes, in elements. */
  readonly logSumsOffset: number;
}

/**
 * Softmax attention of the query heads of one KV head over full-precision keys and values (step 6 of section 3 of the
 * algorithm), with logits ⟨q, k⟩ / sqrt(headDim), all in f64.
 *
 * A key whose logit is not finite counts as absent. When nothing is left the output is zero and the log-sum-exp -Infinity.
 *
 * @throws InvalidArgumentError when an array is too short.
 */
export function attend(parameters: AttendParameters): void {
  const { headDim, queries, queriesOffset, queryHeads, segments, output, outputOffset } = parameters;
  requireInteger("queryHeads", queryHeads, 1, 65536);
  requireLength("queries", queries, queriesOffset + queryHeads * headDim);
  requireLength("output", output, outputOffset + queryHeads * headDim);
  requireLength("logSums", parameters.logSums, parameters.logSumsOffset + queryHeads);
  let totalTokens = 0;
  for (const { records, tokens } of segments) {
    requireLength("records", records, tokens * 2 * headDim);
    totalTokens += tokens;
  }

  const logits = new Float64Array(totalTokens);
  const mixed = new Float64Array(headDim);
  for (let head = 0; head < queryHeads; head++) {
    const greatest = computeLogits(parameters, queriesOffset + head * headDim, logits);
    let total = 0;
    let row = 0;
    mixed.fill(0);
    for (const { records, tokens } of segments) {
      for (let token = 0; token < tokens; token++, row++) {
        const logit = logits[row]!;
        if (!Number.isFinite(logit)) continue;
        const share = Math.exp(logit - greatest);
        const valueAt = (2 * token + 1) * headDim;
        total += share;
        for (let j = 0; j < headDim; j++) {
          mixed[j] = mixed[j]! + share * records[valueAt + j]!;
        }
      }
    }
    const to = outputOffset + head * headDim;
    for (let j = 0; j < headDim; j++) output[to + j] = total > 0 ? mixed[j]! / total : 0;
    parameters.logSums[parameters.logSumsOffset + head] =
      total > 0 ? greatest + Math.log(total) : Number.NEGATIVE_INFINITY;
  }
}

/** Fills `logits` for one query head and returns the largest finite one. */
function computeLogits({ headDim, queries, segments }: AttendParameters, from: number, logits: Float64Array): number {
  const scale = 1 / Math.sqrt(headDim);
  let greatest = Number.NEGATIVE_INFINITY;
  let row = 0;
  for (const { records, tokens } of segments) {
    for (let token = 0; token < tokens; token++, row++) {
      const keyAt = 2 * token * headDim;
      let product = 0;
      for (let j = 0; j < headDim; j++) {
        product += queries[from + j]! * records[keyAt + j]!;
      }
      const logit = product * scale;
      logits[row] = logit;
      if (logit > greatest && logit < Number.POSITIVE_INFINITY) greatest = logit;
    }
  }
  return greatest;
}
