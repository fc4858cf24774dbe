import type { TokenCounter } from "./count-tokens.js";
import type { Haystack } from "./haystack.js";
import type { Random } from "./random.js";

/** Below this a run would be a single broken sentence more often than not: facts then stand side by side. */
const MIN_RUN_TOKENS = 24;

/** A run that leaves at most this share of its budget unused is taken at once. */
const GOOD_UNUSED_SHARE = 0.01;

/** Starts tried before the fullest run so far is taken. */
const MAX_STARTS = 16;

/** Tokens of each sentence, counted when it is first used. */
export type SentenceTokens = (sentenceIndex: number) => number;

/** Counts each sentence of a haystack once. */
export function countSentences(haystack: Haystack, countTokens: TokenCounter): SentenceTokens {
  const counts = new Map<number, number>();
  return (sentenceIndex) => {
    let count = counts.get(sentenceIndex);
    if (count === undefined) {
      // At least one, so that a run ends whatever the tokenizer says.
      count = Math.max(1, countTokens(haystack.sentences[sentenceIndex] as string));
      counts.set(sentenceIndex, count);
    }
    return count;
  };
}

/**
 * Draws consecutive sentences of the haystack, from a random one on, that hold at most `budgetTokens` tokens.
 *
 * The haystack is a ring: a run longer than it goes around as often as it must. Of several starts the one whose run
 * fills the budget best is taken, so that a long sentence at the end costs no room.
 */
export function drawHaystackRun(options: {
  readonly haystack: Haystack;
  readonly sentenceTokens: SentenceTokens;
  readonly random: Random;
  readonly budgetTokens: number;
}): string[] {
  const { haystack, sentenceTokens, random, budgetTokens } = options;
  const { sentences } = haystack;
  if (budgetTokens < MIN_RUN_TOKENS) return [];

  let best = { start: 0, count: 0, tokens: 0 };
  for (let attempt = 0; attempt < MAX_STARTS; attempt++) {
    const start = random.below(sentences.length);
    let count = 0;
    let tokens = 0;
    for (;;) {
      const next = tokens + sentenceTokens((start + count) % sentences.length);
      if (next > budgetTokens) break;
      tokens = next;
      count++;
    }
    if (tokens > best.tokens) best = { start, count, tokens };
    if (budgetTokens - best.tokens <= GOOD_UNUSED_SHARE * budgetTokens) break;
  }
  return Array.from({ length: best.count }, (_, index) => sentences[(best.start + index) % sentences.length] as string);
}
