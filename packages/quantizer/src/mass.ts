import { NO_SCORE, SCORE_BINS } from "./spec.js";
import { requireLength } from "./validate.js";

/** With fewer candidates than this, their scores say nothing about the keys that are not candidates. */
const LEAST_CANDIDATES = 8;

/** What `leftOutLogSums` reads, for one query head. */
export interface LeftOutParameters {
  /** Estimates of ⟨k', q'⟩ of the candidates, `[candidateCount] f32` from `estimatesOffset` on. */
  readonly estimates: Float32Array;
  /** Where the estimates of this head begin, in elements. */
  readonly estimatesOffset: number;
  /** 1 / sqrt(headDim). */
  readonly scale: number;
  /** ⟨q, μ⟩ · scale, what centring took from every logit; 0 without calibration. */
  readonly logitShift: number;
  /** `[candidateCount] u32`, ascending. */
  readonly candidates: Uint32Array;
  readonly candidateCount: number;
  /** `[selectedCount] u32`, ascending, a part of `candidates`. */
  readonly selected: Uint32Array;
  readonly selectedCount: number;
  /** Collision scores of all keys, `[tokens] u16`; empty when every valid key is a candidate and none was scored. */
  readonly scores: Uint16Array;
  /** The number of valid keys of each score, `[SCORE_BINS] u32`; zeros when none was scored. */
  readonly histogram: Uint32Array;
}

/** Estimated log-sum-exps of the logits that attention leaves out; -Infinity where there are none. */
export interface LeftOutLogSums {
  /** Of the candidates that were not selected, by their estimates. */
  readonly unselected: number;
  /** Of the valid keys that are not candidates, by their scores; Infinity without any candidate to judge them by. */
  readonly others: number;
}

/**
 * Estimates the attention mass that is left out for one query head (section 5 of the algorithm).
 *
 * Candidates count by their estimates. The other keys count by their scores: a least-squares line through (score, logit) of
 * the candidates with residual variance v makes a key of score z worth exp(a + b z + v / 2), the mean of a log-normal. With
 * fewer than 8 candidates, or all of one score, b is 0.
 *
 * @throws InvalidArgumentError when an array is too short.
 */
export function leftOutLogSums(parameters: LeftOutParameters): LeftOutLogSums {
  const { estimates, estimatesOffset, scale, logitShift, candidates, candidateCount } = parameters;
  const { selected, selectedCount, scores, histogram } = parameters;
  requireLength("estimates", estimates, estimatesOffset + candidateCount);
  requireLength("candidates", candidates, candidateCount);
  requireLength("selected", selected, selectedCount);
  requireLength("histogram", histogram, SCORE_BINS);

  const otherKeys = histogram.slice(0, SCORE_BINS);
  const unselected = new LogSum();
  const line = new LeastSquares();
  let nextSelected = 0;
  for (let position = 0; position < candidateCount; position++) {
    const candidate = candidates[position]!;
    const score = scores[candidate] ?? NO_SCORE;
    if (score !== NO_SCORE) otherKeys[score] = otherKeys[score]! - 1;
    const logit = scale * estimates[estimatesOffset + position]! + logitShift;
    const isSelected = nextSelected < selectedCount && selected[nextSelected] === candidate;
    if (isSelected) nextSelected += 1;
    if (!Number.isFinite(logit)) continue;
    line.add(score, logit);
    if (!isSelected) unselected.add(logit, 1);
  }

  const { intercept, slope, variance } = line.fit();
  const others = new LogSum();
  for (let score = 0; score < SCORE_BINS; score++) {
    const keys = otherKeys[score]!;
    if (keys === 0) continue;
    if (line.count === 0) return { unselected: unselected.value, others: Number.POSITIVE_INFINITY };
    others.add(intercept + slope * score + variance / 2, keys);
  }
  return { unselected: unselected.value, others: others.value };
}

/**
 * The estimated share of the softmax mass that was attended to, 0 to 1 (section 5 of the algorithm): an estimate, neither
 * certified nor probable.
 *
 * `attendedLogSum` is the log-sum-exp of the logits attended to, window and selected keys. The result is 1 when nothing was
 * left out, and 0 when nothing was attended to or keys were left out without any candidate to judge them by.
 */
export function estimateRetrievedMass(attendedLogSum: number, leftOut: LeftOutLogSums): number {
  const { unselected, others } = leftOut;
  if (unselected === Number.NEGATIVE_INFINITY && others === Number.NEGATIVE_INFINITY) return 1;
  if (attendedLogSum === Number.NEGATIVE_INFINITY) return 0;
  return 1 / (1 + Math.exp(unselected - attendedLogSum) + Math.exp(others - attendedLogSum));
}

/** The logarithm of a growing sum of exponentials, none of which is ever taken of a large number. */
class LogSum {
  #greatest = Number.NEGATIVE_INFINITY;
  #total = 0;

  /** Adds `times · exp(logarithm)`; `logarithm` is finite. */
  add(logarithm: number, times: number): void {
    if (logarithm > this.#greatest) {
      this.#total *= Math.exp(this.#greatest - logarithm);
      this.#greatest = logarithm;
    }
    this.#total += times * Math.exp(logarithm - this.#greatest);
  }

  get value(): number {
    return this.#greatest + Math.log(this.#total);
  }
}

/** A line through points, by running means (Welford), which lose no digits to a large common part. */
class LeastSquares {
  count = 0;
  #meanX = 0;
  #meanY = 0;
  #squaresX = 0;
  #squaresY = 0;
  #products = 0;

  add(x: number, y: number): void {
    this.count += 1;
    const beforeX = x - this.#meanX;
    const beforeY = y - this.#meanY;
    this.#meanX += beforeX / this.count;
    this.#meanY += beforeY / this.count;
    this.#squaresX += beforeX * (x - this.#meanX);
    this.#squaresY += beforeY * (y - this.#meanY);
    this.#products += beforeX * (y - this.#meanY);
  }

  fit(): { readonly intercept: number; readonly slope: number; readonly variance: number } {
    const usable = this.count >= LEAST_CANDIDATES && this.#squaresX > 0;
    const slope = usable ? this.#products / this.#squaresX : 0;
    const residuals = Math.max(0, this.#squaresY - slope * this.#products);
    return {
      intercept: this.#meanY - slope * this.#meanX,
      slope,
      variance: residuals / Math.max(1, this.count),
    };
  }
}
