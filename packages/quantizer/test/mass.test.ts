import { describe, expect, it } from "vitest";
import {
  estimateRetrievedMass,
  InvalidArgumentError,
  type LeftOutParameters,
  leftOutLogSums,
  NO_SCORE,
  SCORE_BINS,
} from "../src/index.js";
import { topBySort } from "./oracles.js";
import { Random } from "./random.js";

/** Keys whose logit is `logits[i]` and score is `scores[i]`; the best candidates by score, the best selected by logit. */
function massOf(options: {
  readonly logits: readonly number[];
  readonly scores: readonly number[];
  readonly candidateCount: number;
  readonly selectedCount: number;
  readonly scale?: number;
  readonly logitShift?: number;
}) {
  const { logits, scores, candidateCount, selectedCount, scale = 1, logitShift = 0 } = options;
  const histogram = new Uint32Array(SCORE_BINS);
  for (const score of scores) if (score !== NO_SCORE) histogram[score]! += 1;
  const candidates = topBySort(scores, candidateCount, (i) => scores[i] !== NO_SCORE);
  const own = candidates.map((candidate) => logits[candidate]!);
  const selected = topBySort(own, selectedCount).map((position) => candidates[position]!);
  const attended = selected.reduce((sum, index) => sum + Math.exp(logits[index]!), 0);
  const total = logits.reduce((sum, logit, i) => sum + (scores[i] === NO_SCORE ? 0 : Math.exp(logit)), 0);
  const parameters: LeftOutParameters = {
    estimates: Float32Array.from([0, 0, ...own.map((logit) => (logit - logitShift) / scale)]),
    estimatesOffset: 2,
    scale,
    logitShift,
    candidates: Uint32Array.from(candidates),
    candidateCount: candidates.length,
    selected: Uint32Array.from(selected),
    selectedCount: selected.length,
    scores: Uint16Array.from(scores),
    histogram,
  };
  const leftOut = leftOutLogSums(parameters);
  const estimated = estimateRetrievedMass(Math.log(attended), leftOut);
  return { estimated, exact: attended / total, leftOut, parameters };
}

describe("the estimated retrieved mass (seed 91)", () => {
  const random = new Random(91);
  const scores = Array.from({ length: 4000 }, () => Math.round(500 + 60 * random.normal()));

  it("is exact when logits are a line through the scores", () => {
    const logits = scores.map((score) => 0.02 * score - 9);
    const { estimated, exact } = massOf({ logits, scores, candidateCount: 400, selectedCount: 50 });
    expect(exact).toBeLessThan(0.5);
    expect(Math.abs(estimated - exact)).toBeLessThan(1e-5);
  });

  it("adds half the residual variance for the keys it knows by score only", () => {
    // Noise that does not depend on the score: the log-normal mean exp(v / 2) is what the missed keys are worth.
    const logits = scores.map((score) => 0.004 * score + 1.2 * random.normal());
    const { estimated, exact } = massOf({ logits, scores, candidateCount: 1500, selectedCount: 200 });
    // 2500 missed keys with a relative deviation of exp noise of 1.8: 4 % of their sum; the fit is good to a few more.
    expect(Math.abs(estimated / exact - 1)).toBeLessThan(0.15);
    // Without the variance the missed keys would count half: far outside.
    expect(estimated).toBeLessThan(0.6);
  });

  it("is exact when every key is a candidate, and 1 when every key is attended", () => {
    const logits = scores.map(() => random.normal());
    const all = massOf({ logits, scores, candidateCount: 4000, selectedCount: 100 });
    expect(Math.abs(all.estimated - all.exact)).toBeLessThan(1e-5);
    expect(massOf({ logits, scores, candidateCount: 4000, selectedCount: 4000 }).estimated).toBe(1);
  });

  it("undoes scale and centring", () => {
    const logits = scores.map((score) => 0.02 * score - 9);
    const options = { logits, scores, candidateCount: 400, selectedCount: 50, scale: 1 / 8, logitShift: -300 };
    const { estimated, exact } = massOf(options);
    // Estimates of about 2400 in f32: 1e-4 of a logit.
    expect(Math.abs(estimated - exact)).toBeLessThan(1e-3);
  });

  it("uses the mean logit with fewer than 8 candidates or a single score", () => {
    const few = massOf({
      logits: [1, 2, 3, 4, 0, 0],
      scores: [60, 61, 62, 63, 10, 11],
      candidateCount: 4,
      selectedCount: 1,
    });
    const missed = Math.exp(1) + Math.exp(2) + Math.exp(3) + 2 * Math.exp(2.5 + 1.25 / 2);
    expect(few.estimated).toBeCloseTo(Math.exp(4) / (Math.exp(4) + missed), 6);
    const level = massOf({
      logits: new Array(20).fill(1),
      scores: new Array(20).fill(7),
      candidateCount: 10,
      selectedCount: 5,
    });
    expect(level.estimated).toBeCloseTo(0.25, 6);
  });

  it("ignores invalid keys", () => {
    const logits = [1, 2, 50, 3];
    const { estimated } = massOf({ logits, scores: [5, 5, NO_SCORE, 5], candidateCount: 3, selectedCount: 3 });
    expect(estimated).toBe(1);
  });

  it("is 1 for an empty zone, 0 without candidates, and 0 when nothing was attended to", () => {
    const empty = massOf({ logits: [], scores: [], candidateCount: 0, selectedCount: 0 });
    expect(empty.estimated).toBe(1);
    expect(massOf({ logits: [1], scores: [1], candidateCount: 0, selectedCount: 0 }).estimated).toBe(0);
    expect(massOf({ logits: [1, 1], scores: [1, 1], candidateCount: 2, selectedCount: 0 }).estimated).toBe(0);
  });

  it("stays a share for logits beyond the range of exp", () => {
    const logits = scores.map((score) => 20 * score);
    const { leftOut } = massOf({ logits, scores, candidateCount: 400, selectedCount: 50 });
    expect(Number.isFinite(leftOut.unselected)).toBe(true);
    expect(leftOut.unselected).toBeGreaterThan(leftOut.others);
    expect(estimateRetrievedMass(-1e5, leftOut)).toBe(0);
    expect(estimateRetrievedMass(1e5, leftOut)).toBe(1);
  });

  it("needs no scores when every key is a candidate", () => {
    const logits = scores.map(() => random.normal());
    const { parameters, leftOut } = massOf({ logits, scores, candidateCount: 4000, selectedCount: 100 });
    const unscored = { scores: new Uint16Array(0), histogram: new Uint32Array(SCORE_BINS) };
    expect(leftOutLogSums({ ...parameters, ...unscored })).toEqual(leftOut);
  });

  it("passes over estimates that are not finite", () => {
    const { parameters } = massOf({ logits: [1, 1, 1], scores: [3, 3, 3], candidateCount: 3, selectedCount: 1 });
    const estimates = parameters.estimates.slice();
    estimates[4] = Number.NaN;
    const { unselected, others } = leftOutLogSums({ ...parameters, estimates });
    expect(unselected).toBeCloseTo(1, 6);
    expect(others).toBe(Number.NEGATIVE_INFINITY);
  });

  it("refuses arrays that are too short", () => {
    const { parameters } = massOf({ logits: [1, 2], scores: [1, 2], candidateCount: 2, selectedCount: 1 });
    for (const change of [
      { estimatesOffset: 3 },
      { candidateCount: 3 },
      { selectedCount: 2 },
      { histogram: new Uint32Array(SCORE_BINS - 1) },
    ]) {
      expect(() => leftOutLogSums({ ...parameters, ...change })).toThrow(InvalidArgumentError);
    }
  });
});
