import { setImmediate } from "node:timers/promises";
import type { PageReservation } from "@pariskv/memory";
import { InvalidArgumentError } from "@pariskv/quantizer";
import type { Sequence } from "@pariskv/retrieval";
import type { DecoderModel } from "./decoder-model.js";

/** What {@link prefill} may be told. */
export interface PrefillOptions {
  /** Told how far the memory of the prompt's pages has been taken; not called when there is enough. */
  readonly onReserve?: (reservation: PageReservation) => void;
  /** Told of every chunk that was read. */
  readonly onTokens?: (moreTokens: number) => void;
  readonly signal?: AbortSignal;
}

/**
 * Takes the memory of the prompt's pages, reads the prompt into `sequence`, chunk by chunk, and returns the logits of its
 * last token, `[vocabSize] f32`. Gives the event loop a turn between slabs and chunks, and stops there when `signal` is
 * aborted.
 *
 * @param tokenIds `[tokens]`.
 * @throws InvalidArgumentError when the prompt is empty, longer than what is left of the context, or holds a token that
 * the model does not know; OutOfMemoryError before anything is read when the pages find no memory; the reason of `signal`
 * when it is aborted.
 */
export async function prefill(
  model: DecoderModel,
  sequence: Sequence,
  tokenIds: ArrayLike<number>,
  options: PrefillOptions = {},
): Promise<Float32Array> {
  const refuse = (expected: string, received: number) => {
    throw new InvalidArgumentError({ argument: "the prompt", expected, received });
  };
  const room = model.maxTokens - sequence.tokens;
  if (tokenIds.length === 0) refuse("at least 1 token long", 0);
  if (tokenIds.length > room)
    refuse(`at most ${room} tokens long, which is what the context has left`, tokenIds.length);
  const ids = Int32Array.from(tokenIds);
  const { vocabSize } = model.config;
  const foreign = ids.find((id) => id < 0 || id >= vocabSize);
  if (foreign !== undefined) refuse(`made of tokens below the model's vocabulary of ${vocabSize}`, foreign);
  for (const reservation of sequence.memory.reserve(ids.length)) {
    options.onReserve?.(reservation);
    await setImmediate();
    options.signal?.throwIfAborted();
  }
  for (let first = 0; first < ids.length; first += model.chunkTokens) {
    const end = Math.min(ids.length, first + model.chunkTokens);
    await model.prefillChunk(sequence, ids.subarray(first, end), end === ids.length);
    options.onTokens?.(end - first);
    await setImmediate(); // on a device without threads of its own the chunk has kept the event loop waiting
    options.signal?.throwIfAborted();
  }
  const logits = new Float32Array(model.config.vocabSize);
  model.readLogits(0, logits);
  return logits;
}

/** Why a generation ended: an end-of-text token, the token limit, a full context, or the caller. */
export type StopReason = "end" | "limit" | "context" | "aborted";

/** Chooses the next token from logits, `[vocabSize] f32`. */
export type ChooseToken = (logits: Float32Array) => number;

/**
 * Generates tokens from the logits of what the sequence holds. Yields each token as it is chosen; the return value is why
 * it ended. Each token but the last is appended to the sequence.
 */
export async function* generate(
  model: DecoderModel,
  sequence: Sequence,
  options: {
    /** `[vocabSize] f32`, as {@link prefill} returns them. */
    readonly firstLogits: Float32Array;
    readonly maxTokens: number;
    readonly endTokenIds: readonly number[];
    readonly choose: ChooseToken;
    /** Called after every decode step, when its statistics can be read. */
    readonly onStep?: () => void;
    readonly signal?: AbortSignal;
  },
): AsyncGenerator<number, StopReason> {
  const logits = options.firstLogits.slice();
  for (let count = 0; count < options.maxTokens; count++) {
    const token = options.choose(logits);
    if (options.endTokenIds.includes(token)) return "end";
    yield token;
    await setImmediate();
    if (options.signal?.aborted) return "aborted";
    if (count + 1 === options.maxTokens) break;
    if (sequence.tokens >= model.maxTokens) return "context";
    model.decode([sequence], Int32Array.of(token));
    model.readLogits(0, logits);
    options.onStep?.();
  }
  return "limit";
}
