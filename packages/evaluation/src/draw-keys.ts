import { InvalidArgumentError } from "@pariskv/quantizer";
import type { Random } from "./random.js";
import { ADJECTIVES, NOUNS } from "./words.js";

/** The share of draws whose keys are made of few words, so that both words are needed to tell two keys apart. */
const FEW_WORDS_PROBABILITY = 0.4;

/** Half of all pairs: a draw of both words is then new at least every other time. */
const MAX_KEYS = (ADJECTIVES.length * NOUNS.length) / 2;

/**
 * Draws `count` keys "adjective noun" that are not in `taken`, and adds them to it.
 *
 * @throws InvalidArgumentError when there would be more than 297,703 keys: a context of a million tokens takes a third.
 */
export function drawKeys(random: Random, count: number, taken: Set<string>): string[] {
  const keysInAll = taken.size + count;
  if (keysInAll > MAX_KEYS) {
    throw new InvalidArgumentError({
      argument: "the number of keys",
      expected: `at most ${MAX_KEYS}`,
      received: keysInAll,
    });
  }
  let adjectives = ADJECTIVES;
  let nouns = NOUNS;
  if (random.chance(FEW_WORDS_PROBABILITY)) {
    // 1.6² = 2.56 times as many pairs as keys: most words recur in several keys, and a draw is new with probability .6.
    const words = Math.floor(1.6 * Math.sqrt(keysInAll)) + 2;
    adjectives = random.sample(ADJECTIVES, words);
    nouns = random.sample(NOUNS, words);
  }
  const keys: string[] = [];
  while (keys.length < count) {
    const key = `${random.pick(adjectives)} ${random.pick(nouns)}`;
    if (taken.has(key)) continue;
    taken.add(key);
    keys.push(key);
  }
  return keys;
}
