import { InvalidArgumentError } from "@pariskv/quantizer";
import { mostLikely } from "./most-likely.js";
import { createRandomSource, type RandomSource } from "./random.js";

/** How the next token is chosen. */
export interface SamplingOptions {
  /** 0 chooses the most likely token; higher flattens the distribution. Default 0. */
  readonly temperature?: number | undefined;
  /** Only that many of the most likely tokens; 0 means all. Default 0. */
  readonly topK?: number | undefined;
  /** Only the most likely tokens that together reach this probability; 1 means all. Default 1. */
  readonly topP?: number | undefined;
  /** Only tokens at least this likely compared with the most likely one; 0 means all. Default 0. */
  readonly minP?: number | undefined;
  /** A whole number from 0 to 2^53 - 1. Default 0. */
  readonly seed?: number | undefined;
}

/**
 * Chooses tokens from logits: greedily, or by chance with a seed.
 *
 * The order is that of transformers: temperature, top-k, top-p, min-p. Ties go to the smaller token id, and a logit
 * that is not finite is never chosen, so that equal logits and seeds give equal tokens.
 */
export class Sampler {
  readonly #options: Readonly<Record<"temperature" | "topK" | "topP" | "minP", number>>;
  readonly #random: RandomSource;
  /** `[vocabSize]`: token ids, a heap by probability or in ascending order. */
  #ids = new Uint32Array(0);
  /** `[vocabSize]`: probabilities, not normalised: the most likely token has 1. */
  #likelihoods = new Float64Array(0);

  /** @throws InvalidArgumentError when an option lies outside its range. */
  constructor(options: SamplingOptions = {}) {
    const { temperature = 0, topK = 0, topP = 1, minP = 0, seed = 0 } = options;
    requireRange("temperature", temperature, 0, 100, false);
    requireRange("topK", topK, 0, 2 ** 32 - 1, true);
    requireRange("topP", topP, 0, 1, false);
    requireRange("minP", minP, 0, 1, false);
    requireRange("seed", seed, 0, Number.MAX_SAFE_INTEGER, true);
    this.#options = { temperature, topK, topP, minP };
    this.#random = createRandomSource(seed);
  }

  /**
   * The id of the next token.
   *
   * @param logits `[vocabSize] f32`, left unchanged.
   * @throws InvalidArgumentError when no logit is finite.
   */
  choose(logits: Float32Array): number {
    const best = mostLikely(logits);
    const { temperature, topK, topP, minP } = this.#options;
    if (temperature === 0) return best;
    const total = this.#weigh(logits, logits[best] ?? 0);
    // The first draw for every token: what follows must not change how many numbers are used.
    const draw = this.#random();
    if (topK === 0 && topP === 1 && minP === 0) return this.#pick(0, this.#ids.length, draw * total, best);
    return this.#chooseAmongMostLikely(total, draw, best);
  }

  /** Fills ids and likelihoods; returns the sum of the likelihoods. */
  #weigh(logits: Float32Array, greatestLogit: number): number {
    if (this.#ids.length !== logits.length) {
      this.#ids = new Uint32Array(logits.length);
      this.#likelihoods = new Float64Array(logits.length);
    }
    let total = 0;
    for (let id = 0; id < logits.length; id += 1) {
      const logit = logits[id] ?? Number.NaN;
      const likelihood = Number.isFinite(logit) ? Math.exp((logit - greatestLogit) / this.#options.temperature) : 0;
      this.#ids[id] = id;
      this.#likelihoods[id] = likelihood;
      total += likelihood;
    }
    return total;
  }

  /** All three limits keep a prefix of the tokens in descending order, taken one by one from a heap. */
  #chooseAmongMostLikely(total: number, draw: number, best: number): number {
    const { topK, topP, minP } = this.#options;
    const ids = this.#ids;
    const likelihoods = this.#likelihoods;
    const size = ids.length;
    for (let index = (size >>> 1) - 1; index >= 0; index -= 1) sink(ids, likelihoods, index, size);
    // Taken ids gather at the end: the most likely one last.
    let taken = 0;
    const take = (): number => {
      const last = size - 1 - taken;
      const id = ids[0] ?? 0;
      ids[0] = ids[last] ?? 0;
      ids[last] = id;
      sink(ids, likelihoods, 0, last);
      taken += 1;
      return likelihoods[id] ?? 0;
    };
    let keptTotal = 0;
    if (topK > 0) {
      while (taken < Math.min(topK, size)) keptTotal += take();
    }
    const limit = topP * (topK > 0 ? keptTotal : total);
    const available = topK > 0 ? taken : size;
    let kept = 0;
    let reached = 0;
    while (kept < available && (kept === 0 || reached < limit)) {
      if (kept === taken) take();
      const likelihood = likelihoods[ids[size - 1 - kept] ?? 0] ?? 0;
      if (likelihood < minP || likelihood === 0) break;
      reached += likelihood;
      kept += 1;
    }
    return this.#pick(size - kept, size, draw * reached, best);
  }

  /** The token at which the running sum passes `target`. */
  #pick(begin: number, end: number, target: number, best: number): number {
    let sum = 0;
    let chosen = best;
    for (let index = begin; index < end; index += 1) {
      const id = this.#ids[index] ?? 0;
      const likelihood = this.#likelihoods[id] ?? 0;
      if (likelihood === 0) continue;
      sum += likelihood;
      chosen = id; // rounding may leave the sum just below the target: the last one then stands
      if (sum > target) break;
    }
    return chosen;
  }
}

/** Restores the heap below `index`: the more likely first, ties to the smaller id. */
function sink(ids: Uint32Array, likelihoods: Float64Array, start: number, size: number): void {
  let index = start;
  for (;;) {
    const left = 2 * index + 1;
    if (left >= size) return;
    const right = left + 1;
    const child = right < size && isBefore(ids, likelihoods, right, left) ? right : left;
    if (!isBefore(ids, likelihoods, child, index)) return;
    const id = ids[child] ?? 0;
    ids[child] = ids[index] ?? 0;
    ids[index] = id;
    index = child;
  }
}

function isBefore(ids: Uint32Array, likelihoods: Float64Array, a: number, b: number): boolean {
  const idA = ids[a] ?? 0;
  const idB = ids[b] ?? 0;
  const difference = (likelihoods[idA] ?? 0) - (likelihoods[idB] ?? 0);
  return difference > 0 || (difference === 0 && idA < idB);
}

function requireRange(argument: string, value: number, minimum: number, maximum: number, whole: boolean): void {
  if (value >= minimum && value <= maximum && (!whole || Number.isInteger(value))) return;
  const expected = `a ${whole ? "whole " : ""}number from ${minimum} to ${maximum}`;
  throw new InvalidArgumentError({ argument, expected, received: value });
}
