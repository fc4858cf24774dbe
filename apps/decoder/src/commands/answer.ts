import { ModelFileError } from "@pariskv/quantizer";
import type { RowStatistics, Sequence } from "@pariskv/retrieval";
import type { CommandIo } from "../cli/command-io.js";
import { MemoryProgress } from "../cli/memory-progress.js";
import { Progress } from "../cli/progress.js";
import { type ChooseToken, generate, prefill, type StopReason } from "../model/generate.js";
import { StopStrings } from "../text/stop-strings.js";
import type { Session } from "./session.js";

/** What reading a prompt gave and cost. */
export interface Prefill {
  /** `[vocabSize] f32` after the last token. */
  readonly logits: Float32Array;
  readonly tokens: number;
  readonly tokensPerSecond: number;
}

/** What one answer was and cost. What decode steps are measured by is null when there was none. */
export interface Answer {
  readonly text: string;
  readonly tokenIds: readonly number[];
  readonly stop: StopReason | "stop string";
  readonly seconds: number;
  /** Decode steps a second; the first token comes from the prefill and costs none. */
  readonly tokensPerSecond: number | null;
  /** Share of the context's K and V that a step read, mean over the steps. */
  readonly readShare: number | null;
  /** Bytes of K and V that all steps read. */
  readonly kvBytesRead: number;
  /** Bytes of key summaries that all steps read. */
  readonly summaryBytesRead: number;
  /** Share of the keys that were searched and fetched that lay in the hot set; null when no layer searched. */
  readonly hotShare: number | null;
}

/**
 * Reads a prompt into a sequence with progress on stderr.
 *
 * @throws ModelFileError when the model gives no finite logit for it; as `prefill` otherwise.
 */
export async function prefillWithProgress(
  { model, folder }: Session,
  sequence: Sequence,
  tokenIds: ArrayLike<number>,
  io: CommandIo,
): Promise<Prefill> {
  const memory = new MemoryProgress(io);
  const progress = new Progress(io, "prefill", Math.max(1, tokenIds.length));
  const begin = performance.now();
  const logits = await prefill(model, sequence, tokenIds, {
    onReserve: (reservation) => memory.show(reservation),
    onTokens: (moreTokens) => progress.add(moreTokens),
    signal: io.signal,
  });
  const seconds = (performance.now() - begin) / 1000;
  const tokensPerSecond = tokenIds.length / seconds;
  progress.finish(`${tokenIds.length} tokens in ${seconds.toFixed(1)} s, ${tokensPerSecond.toFixed(0)} tokens/s`);
  if (!logits.some(Number.isFinite)) {
    const expected = "a model with weights that give finite logits";
    throw new ModelFileError({ path: folder.path, expected, received: "one that gives none" });
  }
  return { logits, tokens: tokenIds.length, tokensPerSecond };
}

/** Generates an answer, hands its text out as it comes, and counts what was read. */
export async function generateAnswer(
  { model, tokenizer, folder }: Session,
  sequence: Sequence,
  options: {
    readonly firstLogits: Float32Array;
    readonly maxTokens: number;
    readonly choose: ChooseToken;
    readonly stop?: readonly string[];
    readonly onText: (text: string) => void;
  },
  io: CommandIo,
): Promise<Answer> {
  const stream = tokenizer.stream();
  const stopStrings = new StopStrings(options.stop ?? []);
  const reads = new Reads();
  const tokens = generate(model, sequence, {
    firstLogits: options.firstLogits,
    maxTokens: options.maxTokens,
    endTokenIds: folder.eosTokenIds,
    choose: options.choose,
    signal: io.signal,
    onStep: () => reads.count(() => model.retriever.statistics.read()),
  });
  const tokenIds: number[] = [];
  let text = "";
  const emit = (piece: string) => {
    text += piece;
    if (piece !== "") options.onText(piece);
  };
  let stop: Answer["stop"] | undefined;
  const begin = performance.now();
  while (stop === undefined) {
    const next = await tokens.next();
    if (next.done) {
      stop = next.value;
      emit(stopStrings.push(stream.end()).text);
      emit(stopStrings.end());
    } else {
      tokenIds.push(next.value);
      const result = stopStrings.push(stream.push(next.value));
      emit(result.text);
      if (result.stopped) stop = "stop string";
    }
  }
  const seconds = (performance.now() - begin - reads.ownMs) / 1000;
  return { text, tokenIds, stop, seconds, ...reads.summary(seconds) };
}

/** Sums of what the decode steps of one sequence read. */
class Reads {
  /** Milliseconds that reading the statistics took: the report's cost, not the decoder's. */
  ownMs = 0;
  #steps = 0;
  #share = 0;
  #kvBytes = 0;
  #summaryBytes = 0;
  #selected = 0;
  #hotHits = 0;

  count(read: () => readonly RowStatistics[]): void {
    const begin = performance.now();
    for (const { readShare, recordBytesRead, layers } of read()) {
      this.#share += readShare;
      this.#kvBytes += recordBytesRead;
      for (const { mode, summaryBytesRead, selected, hotHits } of layers) {
        this.#summaryBytes += summaryBytesRead;
        if (mode === "dense") continue;
        this.#selected += selected;
        this.#hotHits += hotHits;
      }
    }
    this.#steps++;
    this.ownMs += performance.now() - begin;
  }

  summary(seconds: number) {
    const mean = (sum: number) => (this.#steps === 0 ? null : sum / this.#steps);
    return {
      tokensPerSecond: this.#steps === 0 ? null : this.#steps / seconds,
      readShare: mean(this.#share),
      kvBytesRead: this.#kvBytes,
      summaryBytesRead: this.#summaryBytes,
      hotShare: this.#selected === 0 ? null : this.#hotHits / this.#selected,
    };
  }
}
