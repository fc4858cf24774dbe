import { InvalidArgumentError, UnsupportedError } from "@pariskv/quantizer";
import type { Sample } from "./assemble-sample.js";
import { createTokenCounter } from "./count-tokens.js";
import type { TextTokenizer } from "./text-model.js";

/** Half-open range of the tokens of an answer, the first token after the prompt being 0. */
export interface TokenRange {
  readonly begin: number;
  readonly end: number;
}

/**
 * The tokens of each value of a sample's answer, for scoring predictions made with the right answer given so far.
 *
 * @throws UnsupportedError when the tokenizer joins tokens across the pieces of an answer.
 */
export function valueTokenRanges(options: {
  readonly tokenizer: TextTokenizer;
  readonly sample: Pick<Sample, "expectedText" | "valueRanges">;
}): TokenRange[] {
  const { expectedText, valueRanges } = options.sample;
  const countTokens = createTokenCounter(options.tokenizer);
  let characters = 0;
  let tokens = 0;
  const ranges = valueRanges.map((range): TokenRange => {
    const begin = tokens + countTokens(expectedText.slice(characters, range.begin));
    tokens = begin + countTokens(expectedText.slice(range.begin, range.end));
    characters = range.end;
    return { begin, end: tokens };
  });
  if (tokens + countTokens(expectedText.slice(characters)) !== countTokens(expectedText)) {
    throw new UnsupportedError({ feature: "a tokenizer that joins tokens across the words of an answer" });
  }
  return ranges;
}

/**
 * The share of values, 0 … 1, whose every token was predicted right when the right answer up to it was given.
 *
 * Free-running text drifts from one slip; this separates retrieval from luck.
 *
 * @param options.expectedIds - token ids of the expected answer, `[answerTokens]`.
 * @param options.predictedIds - the most likely id at each of the same places, `[answerTokens]`.
 * @throws InvalidArgumentError when there are no values, or fewer ids than the values reach.
 */
export function scoreTeacherForced(options: {
  readonly expectedIds: ArrayLike<number>;
  readonly predictedIds: ArrayLike<number>;
  readonly ranges: readonly TokenRange[];
}): number {
  const { expectedIds, predictedIds, ranges } = options;
  if (ranges.length === 0) {
    throw new InvalidArgumentError({ argument: "ranges", expected: "at least one range", received: ranges });
  }
  const lastEnd = ranges.reduce((end, range) => Math.max(end, range.end), 0);
  for (const [argument, ids] of Object.entries({ expectedIds, predictedIds })) {
    if (ids.length < lastEnd) {
      throw new InvalidArgumentError({
        argument: `${argument}.length`,
        expected: `at least ${lastEnd}`,
        received: ids.length,
      });
    }
  }
  const right = ranges.filter(({ begin, end }) => {
    for (let index = begin; index < end; index++) {
      if (expectedIds[index] !== predictedIds[index]) return false;
    }
    return true;
  });
  return right.length / ranges.length;
}
