import { NO_SCORE, SCORE_BINS } from "../spec.js";
import { requireInteger, requireLength } from "../validate.js";

/**
 * Finds the candidates: the `candidateCount` keys of highest score, ties to the smaller index, by histogram (step 4 of
 * section 3 of the algorithm). Returns how many there are: fewer when fewer keys are valid.
 *
 * `scores` is `[tokens] u16`, where NO_SCORE marks invalid keys. Writes the indices ascending to `candidates`, u32, and the
 * number of valid keys of each score to `histogram`, `[SCORE_BINS] u32`.
 *
 * @throws InvalidArgumentError when an array is too short or a count is not a whole number.
 */
export function select(
  scores: Uint16Array,
  tokens: number,
  candidateCount: number,
  histogram: Uint32Array,
  candidates: Uint32Array,
): number {
  requireInteger("tokens", tokens, 0, 2 ** 32 - 1);
  requireInteger("candidateCount", candidateCount, 0, 2 ** 32 - 1);
  requireLength("scores", scores, tokens);
  requireLength("histogram", histogram, SCORE_BINS);
  requireLength("candidates", candidates, Math.min(candidateCount, tokens));
  histogram.fill(0, 0, SCORE_BINS);
  for (let i = 0; i < tokens; i++) {
    const score = scores[i]!;
    if (score !== NO_SCORE) histogram[score] = histogram[score]! + 1;
  }

  // Every key above the threshold is a candidate, and the first `atThreshold` keys that equal it.
  let threshold = SCORE_BINS;
  let atThreshold = 0;
  let wanted = candidateCount;
  while (wanted > 0 && threshold > 0) {
    threshold -= 1;
    atThreshold = Math.min(wanted, histogram[threshold]!);
    wanted -= atThreshold;
  }

  let found = 0;
  for (let i = 0; i < tokens; i++) {
    const score = scores[i]!;
    if (score === NO_SCORE || score < threshold) continue;
    if (score === threshold) {
      if (atThreshold === 0) continue;
      atThreshold -= 1;
    }
    candidates[found] = i;
    found += 1;
  }
  return found;
}
