const REPLACEMENT = "\uFFFD";
/** An unfinished UTF-8 character has at most 3 bytes, and a token at least one: more tokens hold none. */
const MAX_HELD_TOKENS = 4;

/**
 * Decodes tokens that arrive one by one into pieces of complete text; the pieces together equal the text of all tokens.
 *
 * Only the tokens since the last complete piece but one are decoded again, so a step costs the same at any length.
 */
export class TextStream {
  readonly #decode: (tokenIds: readonly number[]) => string;
  /** Tokens of the piece given out last, then those held back. */
  #window: number[] = [];
  /** How many tokens of the window have been given out. */
  #givenTokens = 0;
  #givenText = "";

  /** @param decode the text of a list of token ids. */
  constructor(decode: (tokenIds: readonly number[]) => string) {
    this.#decode = decode;
  }

  /** Takes one token; returns the text that is complete now, which may be none. */
  push(tokenId: number): string {
    this.#window.push(tokenId);
    const text = this.#decode(this.#window);
    const heldTokens = this.#window.length - this.#givenTokens;
    if (text.endsWith(REPLACEMENT) && heldTokens < MAX_HELD_TOKENS) return "";
    return this.#give(text);
  }

  /** Returns the text held back, with U+FFFD for an unfinished character; the stream can then begin anew. */
  end(): string {
    const piece = this.#window.length > this.#givenTokens ? this.#give(this.#decode(this.#window)) : "";
    this.#window = [];
    this.#givenTokens = 0;
    this.#givenText = "";
    return piece;
  }

  #give(text: string): string {
    const piece = text.slice(this.#givenText.length);
    // The last piece stays in front of the next: some decoders treat the first token of a text differently.
    this.#window = this.#window.slice(this.#givenTokens);
    this.#givenTokens = this.#window.length;
    this.#givenText = this.#decode(this.#window);
    return piece;
  }
}
