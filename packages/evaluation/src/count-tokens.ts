import type { TextTokenizer } from "./text-model.js";

/** The tokens of a piece of text inside a prompt: special tokens of the prompt's beginning are not counted. */
export type TokenCounter = (text: string) => number;

/** How many special tokens the tokenizer puts around every text. */
export const specialTokenCount = (tokenizer: TextTokenizer): number => tokenizer.encode("").length;

/**
 * A counter of tokens for pieces of text that begin with a space.
 *
 * Byte-level tokenizers never join a token across ". X", so counts of pieces add up to the count of the whole; others
 * may be off by a few, which the assembly of a sample corrects on the whole prompt.
 */
export function createTokenCounter(tokenizer: TextTokenizer): TokenCounter {
  const specialTokens = specialTokenCount(tokenizer);
  return (text) => tokenizer.encode(text).length - specialTokens;
}
