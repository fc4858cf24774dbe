import type { Context } from "@pariskv/kernels";
import { InvalidArgumentError } from "@pariskv/quantizer";
import { ArraySteps } from "./array-steps.js";
import { createRetriever } from "./create-retriever.js";
import { DEFAULT_POLICY, type RetrievalPolicy } from "./policy.js";
import type { AttentionShape } from "./shape.js";

/** Median times of one attention layer at one length. */
export interface CrossoverPoint {
  readonly contextTokens: number;
  readonly zoneTokens: number;
  readonly denseUs: number;
  readonly voteUs: number;
}

/** Where retrieval begins to be faster than dense attention. */
export interface Crossover {
  /** Zone tokens for `RetrievalPolicy.crossoverTokens`; Infinity when votes were slower at the longest length. */
  readonly crossoverTokens: number;
  /** One for each length whose zone holds more keys than a layer fetches: with fewer there is nothing to search. */
  readonly points: readonly CrossoverPoint[];
}

/** Least time, in microseconds, that each median is taken over. */
const BUDGET_US = 100_000;
/** Most steps that one median is taken over. */
const MOST_STEPS = 500;

/**
 * Times one layer of `shape` with dense attention and with votes at growing lengths on random keys, and returns the
 * length from which votes are faster at every measured one. `policy.mode` and `policy.layers` do not matter.
 *
 * @throws InvalidArgumentError when the lengths do not ascend, and as createRetriever.
 */
export function measureCrossover(options: {
  readonly context: Context;
  readonly shape: Omit<AttentionShape, "layers">;
  readonly policy?: Partial<RetrievalPolicy>;
  /** Context lengths in tokens, ascending. Default 1K to 16K. */
  readonly lengths?: readonly number[];
}): Crossover {
  const { context, policy = {}, lengths = [1024, 2048, 4096, 8192, 16_384] } = options;
  if (lengths.some((tokens, index) => tokens <= (lengths[index - 1] ?? 0))) {
    throw new InvalidArgumentError({ argument: "lengths", expected: "ascending", received: lengths.join(", ") });
  }
  const shape = { ...options.shape, layers: 1 };
  const { topK } = { ...DEFAULT_POLICY, ...policy };
  const points: CrossoverPoint[] = [];
  for (const contextTokens of lengths) {
    const time = (mode: "dense" | "vote") => timeLayer(context, shape, { ...policy, mode, layers: {} }, contextTokens);
    const dense = time("dense");
    if (dense.zoneTokens <= topK) continue;
    points.push({
      contextTokens,
      zoneTokens: dense.zoneTokens,
      denseUs: dense.medianUs,
      voteUs: time("vote").medianUs,
    });
  }
  let crossoverTokens = Number.POSITIVE_INFINITY;
  for (const point of points.toReversed()) {
    if (point.voteUs >= point.denseUs) break;
    crossoverTokens = point.zoneTokens;
  }
  return { crossoverTokens, points };
}

function timeLayer(context: Context, shape: AttentionShape, policy: Partial<RetrievalPolicy>, contextTokens: number) {
  using retriever = createRetriever({ context, shape, policy, maxTokens: contextTokens + MOST_STEPS + 1 });
  using steps = new ArraySteps(retriever);
  using sequence = retriever.createSequence();
  const { kvHeads, queryHeads, headDim } = shape;
  const keys = randomNormals(contextTokens * kvHeads * headDim, 1);
  steps.prefill(sequence, contextTokens, () => ({ k: keys, v: keys }));
  const zoneTokens = sequence.counts.zone;
  const token = keys.subarray(0, kvHeads * headDim);
  const layer = { q: randomNormals(queryHeads * headDim, 2), k: token, v: token };
  const times: number[] = [];
  steps.decode([sequence], () => layer);
  for (let totalUs = 0; (totalUs < BUDGET_US || times.length < 5) && times.length < MOST_STEPS; ) {
    const beginMs = performance.now();
    steps.decode([sequence], () => layer);
    const elapsedUs = (performance.now() - beginMs) * 1000;
    times.push(elapsedUs);
    totalUs += elapsedUs;
  }
  times.sort((a, b) => a - b);
  return { zoneTokens, medianUs: times[times.length >> 1] as number };
}

/** Normal numbers by Box and Muller from a 32-bit linear generator: only their spread matters here. */
function randomNormals(count: number, seed: number): Float32Array {
  let state = seed >>> 0;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return Float32Array.from(
    { length: count },
    () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}
