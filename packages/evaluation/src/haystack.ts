import { InvalidArgumentError } from "@pariskv/quantizer";

/** Free text that facts are hidden in, cut where a fact may stand. */
export interface Haystack {
  /** The name that reports give, with its version. */
  readonly name: string;
  /**
   * The sentences in order. Each begins with a space and ends with a full stop; line breaks between paragraphs stay
   * inside. Joined, they are the text; joined twice, they are the text wrapped around.
   */
  readonly sentences: readonly string[];
}

/** A full stop, then the space and the capital that open the next sentence. */
const SENTENCE_START = /(?<=\.)(?= [A-Z])/;

/**
 * Cuts a text into the sentences that a haystack is drawn from.
 *
 * What stands before the first sentence start joins the last sentence, on a new line, so that the text closes to a ring.
 *
 * @throws InvalidArgumentError when the text has fewer than two sentence starts, or does not end with a full stop.
 */
export function createHaystack(options: { readonly name: string; readonly text: string }): Haystack {
  const text = options.text.trim();
  const [head = "", ...sentences] = text.split(SENTENCE_START);
  const last = sentences.pop();
  if (last === undefined || sentences.length === 0 || !text.endsWith(".")) {
    throw new InvalidArgumentError({
      argument: "text",
      expected: "at least three sentences, the last one ended by a full stop",
      received: text,
    });
  }
  return { name: options.name, sentences: [...sentences, `${last}\n${head}`] };
}
