import { InvalidArgumentError } from "@pariskv/quantizer";

/** The most stop strings of one request. */
export const MAX_STOP_STRINGS = 16;
/** The longest stop string, in characters. */
export const MAX_STOP_LENGTH = 256;

/** What may be shown of the text so far, and whether a stop string has ended it. */
export interface StopResult {
  readonly text: string;
  readonly stopped: boolean;
}

/**
 * Watches a text that arrives in pieces for strings that end it; the string itself is never shown.
 *
 * The end of the text is held back while it could be the beginning of a stop string.
 */
export class StopStrings {
  readonly #strings: readonly string[];
  #held = "";
  #stopped = false;

  /** @throws InvalidArgumentError when there are more than 16 strings, or one is empty or longer than 256 characters. */
  constructor(strings: readonly string[]) {
    if (strings.length > MAX_STOP_STRINGS) {
      const expected = `at most ${MAX_STOP_STRINGS} strings`;
      throw new InvalidArgumentError({ argument: "stop", expected, received: strings.length });
    }
    for (const received of strings) {
      if (received.length >= 1 && received.length <= MAX_STOP_LENGTH) continue;
      throw new InvalidArgumentError({
        argument: "stop",
        expected: `strings of 1 to ${MAX_STOP_LENGTH} characters`,
        received,
      });
    }
    this.#strings = strings;
  }

  /** Takes a piece of text; after a stop every further piece is dropped. */
  push(piece: string): StopResult {
    if (this.#stopped) return { text: "", stopped: true };
    const text = this.#held + piece;
    const starts = this.#strings.map((string) => text.indexOf(string)).filter((start) => start >= 0);
    if (starts.length > 0) {
      this.#stopped = true;
      this.#held = "";
      return { text: text.slice(0, Math.min(...starts)), stopped: true };
    }
    const heldLength = Math.max(0, ...this.#strings.map((string) => overlap(text, string)));
    this.#held = text.slice(text.length - heldLength);
    return { text: text.slice(0, text.length - heldLength), stopped: false };
  }

  /** Returns what was held back: the text is over and no stop string came. */
  end(): string {
    const text = this.#held;
    this.#held = "";
    return text;
  }
}

/** The length of the longest end of `text` that is a proper beginning of `string`. */
function overlap(text: string, string: string): number {
  for (let length = Math.min(text.length, string.length - 1); length > 0; length -= 1) {
    if (text.endsWith(string.slice(0, length))) return length;
  }
  return 0;
}
