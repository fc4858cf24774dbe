import { setImmediate } from "node:timers/promises";
import type { Sequence } from "@pariskv/retrieval";
import { mostLikely } from "../text/most-likely.js";
import type { DecoderModel } from "./decoder-model.js";

/** Where retrieval differs from dense attention on one prompt, decoded greedily. */
export interface Comparison {
  readonly denseTokenIds: readonly number[];
  readonly retrievalTokenIds: readonly number[];
  /** Index of the first token that differs when each goes its own way; null when none does. */
  readonly firstDivergence: number | null;
  /** KL(dense, retrieval) of the next-token distribution in nats, given the dense tokens: one for each decode step. */
  readonly kl: readonly number[];
  readonly klMean: number;
  readonly klMax: number;
  /** Share of the decode steps in which both find the same token most likely, given the dense tokens. */
  readonly top1Agreement: number;
  /** Share of the context's K and V that retrieval read, mean over the steps. */
  readonly readShare: number;
  /** Estimated share of the attention mass that retrieval read, mean over steps, layers and heads; null where the model does not estimate it. */
  readonly estimatedMass: number | null;
}

/**
 * Continues `sequence` greedily three times: dense; retrieval given the dense tokens, which separates each step's error
 * from luck; and retrieval on its own. The sequence itself stays as it is; two forks of it live for a while.
 */
export async function compareAttention(
  model: DecoderModel,
  sequence: Sequence,
  options: {
    /** `[vocabSize] f32` after the prompt. */
    readonly firstLogits: Float32Array;
    readonly maxTokens: number;
    readonly endTokenIds: readonly number[];
    readonly signal?: AbortSignal;
  },
): Promise<Comparison> {
  const { firstLogits, maxTokens, endTokenIds, signal } = options;
  const first = mostLikely(firstLogits);
  const denseTokenIds: number[] = [];
  const kl: number[] = [];
  let agreements = 0;
  let readShares = 0;
  let masses: number | null = 0;
  const turn = async () => {
    await setImmediate();
    signal?.throwIfAborted();
  };
  {
    using dense = sequence.fork();
    using forced = sequence.fork();
    dense.mode = "dense";
    const denseLogits = new Float32Array(model.config.vocabSize);
    const forcedLogits = new Float32Array(model.config.vocabSize);
    for (let token = first; !endTokenIds.includes(token); ) {
      denseTokenIds.push(token);
      if (denseTokenIds.length === maxTokens) break;
      // Both in one batch: the same operators, one row dense and one by retrieval.
      model.decode([dense, forced], Int32Array.of(token, token));
      model.readLogits(0, denseLogits);
      model.readLogits(1, forcedLogits);
      const [, read] = model.retriever.statistics.read();
      readShares += read?.readShare ?? 0;
      for (const { estimatedMass } of read?.layers ?? []) {
        masses = masses === null || estimatedMass === null ? null : masses + estimatedMass / model.config.layers;
      }
      kl.push(klDivergence(denseLogits, forcedLogits));
      const next = mostLikely(denseLogits);
      if (mostLikely(forcedLogits) === next) agreements++;
      token = next;
      await turn();
    }
  }
  const retrievalTokenIds: number[] = [];
  using free = sequence.fork();
  for (let token = first; !endTokenIds.includes(token); ) {
    retrievalTokenIds.push(token);
    if (retrievalTokenIds.length === maxTokens) break;
    model.decode([free], Int32Array.of(token));
    token = model.readBest(1)[0] as number;
    await turn();
  }
  const steps = Math.max(1, kl.length);
  return {
    denseTokenIds,
    retrievalTokenIds,
    firstDivergence: firstDifference(denseTokenIds, retrievalTokenIds),
    kl,
    klMean: kl.reduce((sum, value) => sum + value, 0) / steps,
    klMax: kl.reduce((most, value) => Math.max(most, value), 0),
    top1Agreement: kl.length === 0 ? 1 : agreements / kl.length,
    readShare: readShares / steps,
    estimatedMass: masses === null ? null : masses / steps,
  };
}

function firstDifference(a: readonly number[], b: readonly number[]): number | null {
  const length = Math.max(a.length, b.length);
  for (let index = 0; index < length; index++) if (a[index] !== b[index]) return index;
  return null;
}

/** KL(P, Q) in nats of the softmax distributions of two rows of logits, in float64. */
function klDivergence(p: Float32Array, q: Float32Array): number {
  const logP = logNormalizer(p);
  const logQ = logNormalizer(q);
  let sum = 0;
  for (let id = 0; id < p.length; id++) {
    const a = (p[id] as number) - logP;
    const share = Math.exp(a);
    if (share > 0) sum += share * (a - ((q[id] as number) - logQ)); // 0 log 0 is 0
  }
  return Math.max(0, sum);
}

function logNormalizer(logits: Float32Array): number {
  const most = logits[mostLikely(logits)] as number;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - most);
  return most + Math.log(sum);
}
