import type { Sequence } from "@pariskv/retrieval";
import type { CommandIo } from "../cli/command-io.js";
import { Progress } from "../cli/progress.js";
import { type ChooseToken, generate, prefill, type StopReason } from "../model/generate.js";
import { StopStrings } from "../text/stop-strings.js";
import type { Session } from "./session.js";

/** What one answer was and cost. */
export interface Answer {
  readonly text: string;
  readonly tokenIds: readonly number[];
  readonly stop: StopReason | "stop string";
  readonly seconds: number;
  /** Decode steps a second; the first token comes from the prefill and costs none. */
  readonly tokensPerSecond: number;
  /** Share of the context's K and V that a step read, mean over the steps. */
  readonly readShare: number;
  /** Bytes of K and V that all steps read. */
  readonly kvBytesRead: number;
  /** Bytes of key summaries that all steps read. */
  readonly summaryBytesRead: number;
  /** Estimated share of the attention mass that was read, mean over steps, layers and heads; 1 when dense. */
  readonly estimatedMass: number;
}

/** Reads a prompt into a sequence with progress on stderr; returns the logits after it. */
export async function prefillWithProgress(
  session: Session,
  sequence: Sequence,
  tokenIds: ArrayLike<number>,
  io: CommandIo,
): Promise<{ readonly logits: Float32Array; readonly tokensPerSecond: number }> {
  const progress = new Progress(io, "prefill", Math.max(1, tokenIds.length));
  const begin = performance.now();
  const logits = await prefill(session.model, sequence, tokenIds, {
    onTokens: (moreTokens) => progress.add(moreTokens),
    signal: io.signal,
  });
  const seconds = (performance.now() - begin) / 1000;
  const tokensPerSecond = tokenIds.length / seconds;
  progress.finish(`${tokenIds.length} tokens in ${seconds.toFixed(1)} s, ${tokensPerSecond.toFixed(0)} tokens/s`);
  return { logits, tokensPerSecond };
}

/** Generates an answer, hands its text out as it comes, and counts what was read. */
export async function generateAnswer(
  session: Session,
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
  const { model, tokenizer, folder } = session;
  const stream = tokenizer.stream();
  const stopStrings = new StopStrings(options.stop ?? []);
  const tokenIds: number[] = [];
  let text = "";
  const emit = (piece: string) => {
    text += piece;
    if (piece !== "") options.onText(piece);
  };
  const reads = { share: 0, kvBytes: 0, summaryBytes: 0, mass: 0, steps: 0 };
  let statisticsMs = 0;
  const tokens = generate(model, sequence, {
    firstLogits: options.firstLogits,
    maxTokens: options.maxTokens,
    endTokenIds: folder.eosTokenIds,
    choose: options.choose,
    signal: io.signal,
    onStep: () => {
      // Reading the statistics is the report's cost, not the decoder's.
      const before = performance.now();
      for (const row of model.retriever.statistics.read()) {
        reads.share += row.readShare;
        reads.kvBytes += row.recordBytesRead;
        const { length } = row.layers;
        for (const layer of row.layers) {
          reads.summaryBytes += layer.summaryBytesRead;
          reads.mass += layer.estimatedMass / length;
        }
      }
      reads.steps++;
      statisticsMs += performance.now() - before;
    },
  });
  let stop: Answer["stop"] = "limit";
  const begin = performance.now();
  for (;;) {
    const next = await tokens.next();
    if (next.done) {
      stop = next.value;
      break;
    }
    tokenIds.push(next.value);
    const result = stopStrings.push(stream.push(next.value));
    emit(result.text);
    if (result.stopped) {
      stop = "stop string";
      await tokens.return("end");
      break;
    }
  }
  const seconds = (performance.now() - begin - statisticsMs) / 1000;
  if (stop !== "stop string") {
    emit(stopStrings.push(stream.end()).text);
    emit(stopStrings.end());
  }
  const steps = Math.max(1, reads.steps);
  return {
    text,
    tokenIds,
    stop,
    seconds,
    tokensPerSecond: reads.steps / seconds,
    readShare: reads.share / steps,
    kvBytesRead: reads.kvBytes,
    summaryBytesRead: reads.summaryBytes,
    estimatedMass: reads.mass / steps,
  };
}
