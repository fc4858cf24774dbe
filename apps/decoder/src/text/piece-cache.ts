/**
 * Remembers how pieces of text were split into tokens; forgets everything when it is full.
 *
 * Stands in for the library's least-recently-used cache, which deletes and sets its entry at each look-up: a map of
 * 10,000 entries then takes 30 µs and more to find the same piece again, and a long run of one digit takes minutes.
 */
export class PieceCache {
  readonly #capacity: number;
  readonly #tokens = new Map<string, readonly string[]>();

  /** @param capacity the most pieces that are remembered. */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** The tokens of a piece, or nothing when they are not remembered. */
  get(piece: string): readonly string[] | undefined {
    return this.#tokens.get(piece);
  }

  /** Remembers the tokens of a piece. */
  put(piece: string, tokens: readonly string[]): void {
    if (this.#tokens.size >= this.#capacity) this.#tokens.clear();
    this.#tokens.set(piece, tokens);
  }
}
