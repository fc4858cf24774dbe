import { InvalidArgumentError } from "@pariskv/quantizer";

/**
 * The id of the largest finite logit, ties to the smaller id.
 *
 * @param logits `[vocabSize] f32`.
 * @throws InvalidArgumentError when no logit is finite.
 */
export function mostLikely(logits: Float32Array): number {
  let best = -1;
  for (let id = 0; id < logits.length; id += 1) {
    const logit = logits[id] ?? Number.NaN;
    if (Number.isFinite(logit) && (best < 0 || logit > (logits[best] ?? 0))) best = id;
  }
  if (best >= 0) return best;
  throw new InvalidArgumentError({ argument: "logits", expected: "a finite number at least once", received: logits });
}
