import type { Random } from "./random.js";
import type { FactKind } from "./sentences.js";
import { NOUNS } from "./words.js";

/** A number of `digits` digits, the first not zero; `digits` is at most 9. */
export const drawDigits = (random: Random, digits: number): string =>
  String(random.between(10 ** (digits - 1), 10 ** digits - 1));

const hexDigits = (random: Random, digits: number): string =>
  random
    .below(16 ** digits)
    .toString(16)
    .padStart(digits, "0");

const DRAW: Record<FactKind, (random: Random) => string> = {
  number: (random) => drawDigits(random, 7),
  word: (random) => random.pick(NOUNS),
  uuid: (random) => `${hexDigits(random, 8)}-${hexDigits(random, 4)}`,
  code: (random) => drawDigits(random, 4),
};

/**
 * Draws a value of a kind that is not in `forbidden`: a number of seven digits, a noun, a short uuid of eight and four
 * hexadecimal digits, or a code of four digits.
 */
export function drawValue(random: Random, kind: FactKind, forbidden: ReadonlySet<string>): string {
  let drawn = DRAW[kind](random);
  while (forbidden.has(drawn)) drawn = DRAW[kind](random);
  return drawn;
}
