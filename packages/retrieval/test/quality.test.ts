import { createContext, type Group, STATS, STATS_FIELDS, type Votes } from "@pariskv/kernels";
import { afterAll, describe, expect, it } from "vitest";
import { Random } from "../../kernels/test/support/random.js";
import { ArraySteps, createRetriever } from "../src/index.js";

const SEED = 1409;
const SHAPE = { layers: 1, queryHeads: 4, kvHeads: 1, headDim: 128 };
const TOKENS = 4096;
const QUERIES = 24;

/** Keys as language models have them, or plain normal ones, and queries whose heads agree in part (cosine about .64). */
function drawScene(kind: "isotropic" | "llm") {
  const random = new Random(SEED);
  const { queryHeads, headDim } = SHAPE;
  const mean = random.normals(headDim).map((x) => (kind === "llm" ? 1.5 * x : 0));
  const spread = random.normals(headDim).map((x, j) => (kind === "llm" ? 0.4 + Math.abs(x) + (j % 37 === 5 ? 6 : 0) : 1));
  const k = random.normals(TOKENS * headDim).map((x, i) => x * (spread[i % headDim] as number) + (mean[i % headDim] as number));
  const queries = Array.from({ length: QUERIES }, () => {
    const shared = random.normals(headDim);
    const q = new Float32Array(queryHeads * headDim);
    for (let i = 0; i < q.length; i++) {
      const j = i % headDim;
      // Sharp logits of a deviation of 3, whatever the spread of the keys is.
      q[i] = (3 * (0.8 * (shared[j] as number) + 0.6 * random.normal())) / (spread[j] as number);
    }
    return q;
  });
  return { k, queries };
}

/** The log-sum-exp of all keys up to the one of the step itself, for each query head. */
function denseLogSums(k: Float32Array, q: Float32Array): number[] {
  const { headDim, queryHeads } = SHAPE;
  return Array.from({ length: queryHeads }, (_, head) => {
    let sum = 0;
    for (let token = 0; token < k.length / headDim; token++) {
      let logit = 0;
      for (let j = 0; j < headDim; j++) logit += (q[head * headDim + j] as number) * (k[token * headDim + j] as number);
      sum += Math.exp(logit / Math.sqrt(headDim));
    }
    return Math.log(sum);
  });
}

describe(`attention mass kept with K = 64 of 3,584 keys (seed ${SEED})`, () => {
  const context = createContext({ device: "reference" });
  afterAll(() => context.dispose());

  /** Exact mean mass over queries and heads, and the mean of what the statistics estimate. */
  function keptMass(kind: "isotropic" | "llm", votes: Votes, group: Group, candidateShare: number) {
    const { k, queries } = drawScene(kind);
    const { headDim, queryHeads } = SHAPE;
    using retriever = createRetriever({
      context,
      shape: SHAPE,
      maxTokens: TOKENS + QUERIES,
      kvDtype: "f32",
      policy: { mode: "vote", topK: 64, votes, group, candidateShare },
    });
    using steps = new ArraySteps(retriever);
    using prefix = retriever.createSequence();
    steps.prefill(prefix, TOKENS - 1, () => ({ k: k.subarray(0, -headDim), v: k.subarray(0, -headDim) }));
    expect(prefix.counts.zone).toBe(3584);
    let kept = 0;
    let estimated = 0;
    for (const q of queries) {
      const token = k.subarray(-headDim);
      steps.decode([prefix], () => ({ q, k: token, v: token }));
      const stats = new Float32Array(queryHeads * STATS_FIELDS);
      const { buffer, offsetBytes = 0 } = retriever.plan.field("stats");
      buffer.read(offsetBytes, stats);
      const all = denseLogSums(k, q);
      for (const [head, logSum] of all.entries()) {
        kept += Math.exp((stats[head * STATS_FIELDS + STATS.LSE_ATTENDED] as number) - logSum);
      }
      estimated += queryHeads * (retriever.statistics.read()[0]?.layers[0]?.estimatedMass as number);
    }
    return { kept: kept / QUERIES / queryHeads, estimated: estimated / QUERIES / queryHeads };
  }
  it("x", () => {
    for (const kind of ["isotropic", "llm"] as const)
      for (const [v, g, s] of [["graded","max",.05],["tiered","mean",.2],["graded","mean",.05],["tiered","max",.2],["graded","sum",.05],["graded","max",1]] as const)
        console.log(kind, v, g, s, keptMass(kind, v, g, s));
  });
});
