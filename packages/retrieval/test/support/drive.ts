import { type Context, createContext } from "@pariskv/kernels";
import { expect } from "vitest";
import {
  ArraySteps,
  type AttentionShape,
  createRetriever,
  type LayerArrays,
  type Retriever,
  type RetrieverSettings,
  type Sequence,
} from "../../src/index.js";
import type { TokenStream } from "./token-stream.js";

/** The first page is sealed at 5 + 16 + 512 = 533 tokens, the second at 1045; the ring has 655 rows. */
export const ZONES = { sinkTokens: 5, localTokens: 16, chunkTokens: 64 };
/** The lengths at which pages are sealed. */
export const SEALED = [533, 1045] as const;
/** A small model. */
export const SHAPE: AttentionShape = { layers: 2, queryHeads: 4, kvHeads: 2, headDim: 64 };

/** A retriever that is driven with token streams; without a context it makes one on the reference device. */
export class Driver {
  readonly retriever: Retriever;
  readonly steps: ArraySteps;
  readonly #context: Context | undefined;

  constructor(settings: Partial<RetrieverSettings> = {}, context?: Context) {
    this.#context = context === undefined ? createContext({ device: "reference" }) : undefined;
    this.retriever = createRetriever({
      shape: SHAPE,
      zones: ZONES,
      maxTokens: 2048,
      kvDtype: "f32",
      ...settings,
      context: context ?? (this.#context as Context),
    });
    this.steps = new ArraySteps(this.retriever);
  }

  /** A new sequence with the first `tokens` tokens of a stream. */
  start(stream: TokenStream, tokens: number): Sequence {
    const sequence = this.retriever.createSequence();
    this.prefill(sequence, stream, tokens);
    return sequence;
  }

  /** Takes in the stream's tokens up to `end`. */
  prefill(sequence: Sequence, stream: TokenStream, end: number): void {
    const begin = sequence.tokens;
    this.steps.prefill(sequence, end - begin, (layer) => stream.prefill(layer, begin, end));
  }

  /** Decodes the next token of each sequence; returns the outputs of each layer, `[sequences, queryHeads, headDim]`. */
  decode(sequences: readonly Sequence[], streams: readonly TokenStream[]): Float32Array[] {
    const positions = sequences.map((sequence) => sequence.tokens);
    const outputs: Float32Array[] = [];
    const last = this.steps.decode(sequences, (layer, previous) => {
      if (previous) outputs.push(previous);
      const rows = streams.map((stream, row) => stream.decode(layer, positions[row] as number));
      const join = (name: keyof LayerArrays) => Float32Array.from(rows.flatMap((row) => [...row[name]]));
      return { q: join("q"), k: join("k"), v: join("v") };
    });
    return [...outputs, last];
  }

  dispose(): void {
    this.steps.dispose();
    this.retriever.dispose();
    this.#context?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** The largest difference of two arrays of one length. */
export function largestDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs((actual[i] as number) - (expected[i] as number));
    // NaN must not pass for small.
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}
