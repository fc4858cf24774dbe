import type { DeviceBuffer, Rows, Step } from "@pariskv/kernels";
import { InvalidArgumentError, requireInteger } from "@pariskv/quantizer";
import type { AttentionRows, Retriever, StepEntry } from "./retriever.js";
import type { Sequence } from "./sequence.js";

/** Arrays of one layer of a decode step, after RoPE. */
export interface LayerArrays {
  /** `[sequences, queryHeads, headDim]`. */
  readonly q: Float32Array;
  /** `[sequences, kvHeads, headDim]`. */
  readonly k: Float32Array;
  /** `[sequences, kvHeads, headDim]`. */
  readonly v: Float32Array;
}

/** Keys and values of one layer of many tokens, after RoPE. */
export interface PrefillArrays {
  /** `[tokens, kvHeads, headDim]`. */
  readonly k: Float32Array;
  /** `[tokens, kvHeads, headDim]`. */
  readonly v: Float32Array;
}

/**
 * Steps for programs that hold queries, keys and values in JavaScript arrays. Programs that keep them on the device
 * record {@link Retriever.queueDecode} instead and copy nothing.
 */
export class ArraySteps {
  readonly #retriever: Retriever;
  readonly #rows: AttentionRows;
  readonly #buffers: DeviceBuffer[] = [];

  /**
   * Takes staging memory from the retriever's context: K and V of one chunk, queries and outputs of one decode step.
   *
   * @throws OutOfMemoryError with nothing leaked.
   */
  constructor(retriever: Retriever) {
    this.#retriever = retriever;
    const { shape, maxRows, plan, context } = retriever;
    const stage = (rowCount: number, heads: number): Rows => {
      const rowStride = heads * shape.headDim;
      const buffer = context.allocate(rowCount * rowStride * 4, "device");
      this.#buffers.push(buffer);
      return { buffer, rowStride };
    };
    try {
      this.#rows = {
        k: stage(maxRows, shape.kvHeads),
        v: stage(maxRows, shape.kvHeads),
        q: stage(plan.params.maxRows, shape.queryHeads),
        out: stage(plan.params.maxRows, shape.queryHeads),
      };
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /**
   * Takes in K and V of tokens that were computed elsewhere: they join the sequence as if decoded, page by page.
   * `layer(index)` gives the arrays of each layer; all of them hold `tokens` tokens, which may be none.
   *
   * @throws InvalidArgumentError when an array has another length or the sequence gets too long, OutOfMemoryError when
   * the pool has too few pages: nothing is appended then.
   */
  prefill(sequence: Sequence, tokens: number, layer: (index: number) => PrefillArrays): void {
    const { shape, memory, context } = this.#retriever;
    requireInteger("tokens", tokens, 0, memory.maxTokens);
    const width = shape.kvHeads * shape.headDim;
    const arrays = Array.from({ length: shape.layers }, (_, index) => layer(index));
    for (const { k, v } of arrays) {
      checkLength("k", k, tokens * width);
      checkLength("v", v, tokens * width);
    }
    sequence.memory.requireRoom(tokens);
    for (let first = 0; first < tokens; first += memory.zones.chunkTokens) {
      const count = Math.min(memory.zones.chunkTokens, tokens - first);
      this.#inStep([{ sequence, tokens: count }], (step) => {
        for (const [index, { k, v }] of arrays.entries()) {
          this.#rows.k.buffer.write(0, k.subarray(first * width, (first + count) * width));
          this.#rows.v.buffer.write(0, v.subarray(first * width, (first + count) * width));
          context.append({ cache: memory.cache, layer: index, step, k: this.#rows.k, v: this.#rows.v });
        }
      });
    }
  }

  /**
   * Decodes one token of each sequence. `layer(index)` is called for every layer in order, with the attention output of
   * the layer before it (`[sequences, queryHeads, headDim]`; undefined for layer 0), and gives that layer's arrays.
   * Returns the output of the last layer. When anything throws, no token is counted.
   *
   * @throws InvalidArgumentError when an array has another length or a sequence cannot take a token, OutOfMemoryError.
   */
  decode(
    sequences: readonly Sequence[],
    layer: (index: number, previous: Float32Array | undefined) => LayerArrays,
  ): Float32Array {
    const retriever = this.#retriever;
    const { queryHeads, kvHeads, headDim, layers } = retriever.shape;
    const count = sequences.length;
    const outputs: Float32Array[] = [];
    this.#inStep(
      sequences.map((sequence) => ({ sequence })),
      (step) => {
        for (let index = 0; index < layers; index++) {
          const { q, k, v } = layer(index, outputs.at(-1));
          checkLength("q", q, count * queryHeads * headDim);
          checkLength("k", k, count * kvHeads * headDim);
          checkLength("v", v, count * kvHeads * headDim);
          this.#rows.q.buffer.write(0, q);
          this.#rows.k.buffer.write(0, k);
          this.#rows.v.buffer.write(0, v);
          retriever.queueDecode(index, step, this.#rows);
          const output = new Float32Array(count * queryHeads * headDim);
          this.#rows.out.buffer.read(0, output);
          outputs.push(output);
        }
      },
    );
    return outputs.at(-1) as Float32Array;
  }

  /** Gives the staging memory back. A second dispose does nothing. */
  dispose(): void {
    for (const buffer of this.#buffers) buffer.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #inStep(entries: readonly StepEntry[], body: (step: Step) => void): void {
    const step = this.#retriever.beginStep(entries);
    try {
      body(step);
    } catch (error) {
      this.#retriever.abortStep();
      throw error;
    }
    this.#retriever.endStep();
  }
}

function checkLength(argument: string, array: Float32Array, length: number): void {
  if (!(array instanceof Float32Array) || array.length !== length) {
    throw new InvalidArgumentError({ argument, expected: `a Float32Array of ${length} elements`, received: array });
  }
}
