import { describe, expect, it } from "vitest";
import {
  type CalibrationMode,
  createQuantizer,
  findCalibration,
  type GroupPolicy,
  type KeySummaries,
  type Quantizer,
  retrieve,
  summarizeKeys,
  type VotePolicy,
} from "../src/index.js";
import { dot, recall, recordsOf, topBySort } from "./oracles.js";
import { Random } from "./random.js";

const headDim = 128;
const tokens = 16_384;
const queryCount = 8;
const wanted = 100;
const quantizer: Quantizer = createQuantizer({ headDim });

interface Recalls {
  /** Share of the exact top 100 among the candidates. */
  readonly coarse: number;
  /** Share of the exact top 100 among the selected keys. */
  readonly final: number;
}

/** Logits of every key for one query, `[tokens] f64`. */
function logitsOf(keys: Float32Array, query: Float32Array): Float64Array {
  return Float64Array.from(
    { length: tokens },
    (_, i) => dot(keys, query, i * headDim, 0, headDim) / Math.sqrt(headDim),
  );
}

/** Mean recall of the exact top 100 over single queries. */
function meanRecall(options: {
  readonly summaries: KeySummaries;
  readonly records: Float32Array;
  readonly queries: readonly Float32Array[];
  readonly exact: readonly number[][];
  readonly votes: VotePolicy;
  readonly candidateShare: number;
}): Recalls {
  let coarse = 0;
  let final = 0;
  options.queries.forEach((query, i) => {
    const result = retrieve({ ...options, queries: query, groupHeads: 1, activatedShare: 0.2, retrievalK: wanted });
    coarse += recall(result.candidates, options.exact[i]!) / options.queries.length;
    final += recall(result.selected, options.exact[i]!) / options.queries.length;
  });
  return { coarse, final };
}

// The floors were recorded with these seeds and lie 0.01 to 0.03 below what was measured.
describe("recall of the exact top 100 of 16384 isotropic keys (seed 111)", () => {
  const random = new Random(111);
  const keys = random.normals(tokens * headDim);
  const records = recordsOf(keys, new Float32Array(keys.length), headDim);
  const queries = Array.from({ length: queryCount }, () => random.normals(headDim));
  const exact = queries.map((query) => topBySort(logitsOf(keys, query), wanted));
  const summaries = summarizeKeys({ quantizer, keys, tokens });
  const run = (votes: VotePolicy, candidateShare: number): Recalls =>
    meanRecall({ summaries, records, queries, exact, votes, candidateShare });
  const tiered = run("tiered", 0.1);
  const graded = run("graded", 0.1);

  it("keeps its floors", () => {
    expect(tiered.coarse).toBeGreaterThan(0.68); // measured 0.70
    expect(graded.coarse).toBeGreaterThan(0.91); // measured 0.93
    expect(graded.final).toBeGreaterThan(0.86); // measured 0.88
  });

  it("is far better with graded votes than with tiered ones, at half the candidates still", () => {
    expect(graded.coarse).toBeGreaterThan(tiered.coarse + 0.15);
    expect(run("graded", 0.05).coarse).toBeGreaterThan(tiered.coarse);
  });

  it("is limited by the estimates alone when every key is a candidate", () => {
    const all = run("graded", 1);
    expect(all.coarse).toBe(1);
    expect(all.final).toBeGreaterThan(0.89); // measured 0.91
  });
});

describe("recall of the exact top 100 of 16384 keys with a mean, uneven channels and outliers (seed 112)", () => {
  const random = new Random(112);
  const deviations = Float64Array.from({ length: headDim }, () => Math.exp(0.4 * random.normal()));
  for (const outlier of [3, 40, 77]) deviations[outlier]! *= 4;
  const means = deviations.map((deviation) => 3 * deviation * random.normal());
  const keys = random
    .normals(tokens * headDim)
    .map((value, i) => means[i % headDim]! + deviations[i % headDim]! * value);
  // Aligned to the inverse covariance, as queries of trained models tend to be: every channel matters equally.
  const sample = random.normals(200 * headDim).map((value, i) => value / deviations[i % headDim]!);
  const queries = Array.from({ length: queryCount }, (_, i) => sample.subarray(i * headDim, (i + 1) * headDim));
  const exact = queries.map((query) => topBySort(logitsOf(keys, query), wanted));
  const records = recordsOf(keys, new Float32Array(keys.length), headDim);
  const run = (mode: CalibrationMode, votes: VotePolicy): Recalls => {
    const calibration = findCalibration({ mode, headDim, keys, keyCount: 2000, queries: sample, queryCount: 200 });
    const summaries = summarizeKeys({ quantizer, keys, tokens, calibration });
    return meanRecall({ summaries, records, queries, exact, votes, candidateShare: 0.1 });
  };

  it("rises from the paper's scheme over centring to balancing", () => {
    const paper = run("none", "tiered");
    const centred = run("center", "graded");
    const balanced = run("balance", "graded");
    expect(paper.coarse).toBeGreaterThan(0.23); // measured 0.26
    expect(centred.coarse).toBeGreaterThan(0.7); // measured 0.73
    expect(balanced.coarse).toBeGreaterThan(0.91); // measured 0.93
    expect(balanced.final).toBeGreaterThan(0.86); // measured 0.88
    expect(centred.coarse).toBeGreaterThan(paper.coarse + 0.3);
    expect(balanced.coarse).toBeGreaterThan(centred.coarse + 0.1);
  });
});

describe("a group of four query heads with pairwise cosine 0.25 (seed 113)", () => {
  const random = new Random(113);
  const keys = random.normals(tokens * headDim);
  const records = recordsOf(keys, random.normals(tokens * headDim), headDim);
  const summaries = summarizeKeys({ quantizer, keys, tokens });
  const groups = Array.from({ length: 3 }, () => {
    const common = random.normals(headDim);
    return Float32Array.from({ length: 4 * headDim }, (_, i) => {
      return 4 * (0.5 * common[i % headDim]! + Math.sqrt(0.75) * random.normal());
    });
  });

  /** Mean share of the full softmax mass that the selected keys of each head hold, exact and as estimated. */
  const massKept = (group: GroupPolicy) => {
    let exact = 0;
    let estimated = 0;
    for (const queries of groups) {
      const result = retrieve({
        summaries,
        records,
        queries,
        groupHeads: 4,
        group,
        candidateShare: 0.1,
        retrievalK: wanted,
      });
      for (let head = 0; head < 4; head++) {
        const logits = logitsOf(keys, queries.subarray(head * headDim, (head + 1) * headDim));
        const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
        exact += Math.exp(result.logSums[head]!) / total / (4 * groups.length);
        estimated += result.retrievedMass[head]! / (4 * groups.length);
      }
    }
    return { exact, estimated };
  };

  it("keeps more of the attention mass when each head has its say than by the mean query", () => {
    const mean = massKept("mean");
    const max = massKept("max");
    const sum = massKept("sum");
    expect(mean.exact).toBeGreaterThan(0.46); // measured 0.48
    expect(max.exact).toBeGreaterThan(mean.exact + 0.05); // measured 0.56
    expect(sum.exact).toBeGreaterThan(mean.exact + 0.08); // measured 0.59
    // Under sum the score follows every head, and the estimate is good: measured 0.62. Under max the score follows one
    // head at a time, the line fits badly, and its variance makes the estimate cautious: measured 0.31.
    expect(Math.abs(sum.estimated - sum.exact)).toBeLessThan(0.06);
    expect(max.estimated).toBeLessThan(max.exact);
  });
});
