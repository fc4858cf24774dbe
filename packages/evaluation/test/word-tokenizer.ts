import type { TextTokenizer } from "../src/index.js";

const PIECES = / ?[A-Za-z]+|\d| ?[^\sA-Za-z\d]+|\s/g;

/**
 * A tokenizer for tests: a beginning token, then one token a word, digit, run of marks or lone space. Like byte-level
 * tokenizers it never joins a token across ". X".
 */
export const wordTokenizer: TextTokenizer = {
  encode(text) {
    const pieces = text.match(PIECES) ?? [];
    return [0, ...pieces.map((piece) => 1 + (piece.length * 31 + piece.charCodeAt(piece.length - 1)))];
  },
};
