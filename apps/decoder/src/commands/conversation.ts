import type { Sequence } from "@pariskv/retrieval";
import type { CommandIo } from "../cli/command-io.js";
import { type Prefill, prefillWithProgress } from "./answer.js";
import type { Session } from "./session.js";

/** The tokens that the model has read, so that each turn of a conversation reads only what is new. */
export class Conversation {
  readonly #session: Session;
  #sequence: Sequence;
  #tokenIds: number[] = [];

  constructor(session: Session) {
    this.#session = session;
    this.#sequence = session.model.createSequence();
  }

  /** The sequence that holds the conversation; another one after a turn that rewrote its past. */
  get sequence(): Sequence {
    return this.#sequence;
  }

  /**
   * Brings the sequence to `tokenIds`: keeps the common beginning and reads the rest, at least the last token.
   *
   * @param tokenIds the whole conversation, `[tokens] u32`.
   * @throws as `prefillWithProgress`.
   */
  async read(tokenIds: Uint32Array, io: CommandIo): Promise<Prefill> {
    let common = 0;
    const most = Math.min(this.#tokenIds.length, this.#sequence.tokens, tokenIds.length - 1);
    while (common < most && this.#tokenIds[common] === tokenIds[common]) common++;
    if (common < this.#sequence.tokens) {
      const shorter = this.#sequence.fork(common);
      this.#sequence.dispose();
      this.#sequence = shorter;
    }
    const prefill = await prefillWithProgress(this.#session, this.#sequence, tokenIds.subarray(common), io);
    this.#tokenIds = Array.from(tokenIds);
    return prefill;
  }

  /** Remembers the answer, of which the sequence holds all but perhaps the last token. */
  heard(tokenIds: readonly number[]): void {
    for (const id of tokenIds) this.#tokenIds.push(id); // an answer may be longer than an argument list
  }
}
