import type { Context, DeviceBuffer, Dtype, Rows, Step, Tape } from "@pariskv/kernels";
import { ropeFrequencies } from "@pariskv/kernels/dense";
import { DisposedError, InvalidArgumentError } from "@pariskv/quantizer";
import { createRetriever, type RetrievalPolicy, type Retriever, type Sequence } from "@pariskv/retrieval";
import type { ModelConfig } from "../model-files/config.js";
import type { ModelFolder } from "../model-files/model-folder.js";
import { type Activations, createActivations } from "./activations.js";
import { type DeviceWeights, loadWeights, type Matrix } from "./load-weights.js";

/** How a model is put on a device. */
export interface DecoderModelOptions {
  readonly context: Context;
  /** Longest sequence, in tokens. */
  readonly maxTokens: number;
  /** Sequences at the same time. Default 1. */
  readonly maxSequences?: number;
  /** Element type of the stored K and V. Default `bf16`. */
  readonly kvDtype?: Dtype;
  readonly policy?: Partial<RetrievalPolicy>;
  /** Pages of all sequences together; fewer than the default are enough when sequences share a prefix. */
  readonly capacityPages?: number;
  /** Told the bytes of weights read so far. */
  readonly onBytes?: (bytes: number) => void;
}

/**
 * A Llama, Qwen2 or Qwen3 model on one context: embedding, layers of attention and MLP, output projection.
 *
 * The decode step of all layers is recorded once for each number of sequences and then run with one call a token;
 * prefill queues the same operators chunk by chunk. Attention is the retriever's.
 */
export class DecoderModel {
  readonly config: ModelConfig;
  readonly context: Context;
  readonly retriever: Retriever;
  readonly weightBytes: number;
  readonly #weights: DeviceWeights;
  readonly #activations: Activations;
  readonly #frequencies: DeviceBuffer;
  readonly #tapes = new Map<number, Tape>();
  readonly #maxSequences: number;
  #disposed = false;

  private constructor(options: {
    config: ModelConfig;
    retriever: Retriever;
    weights: DeviceWeights;
    activations: Activations;
    frequencies: DeviceBuffer;
    maxSequences: number;
  }) {
    this.config = options.config;
    this.retriever = options.retriever;
    this.context = options.retriever.context;
    this.#weights = options.weights;
    this.weightBytes = options.weights.bytes;
    this.#activations = options.activations;
    this.#frequencies = options.frequencies;
    this.#maxSequences = options.maxSequences;
  }

  /**
   * Reads a model folder's weights to the device and takes all memory that decoding needs.
   *
   * @throws OutOfMemoryError when it does not fit; nothing is leaked.
   * @throws ModelFileError when a weight file changed since it was opened.
   */
  static load(folder: ModelFolder, options: DecoderModelOptions): DecoderModel {
    const { config } = folder;
    const { context, maxSequences = 1 } = options;
    const taken: { dispose(): void }[] = [];
    const take = <T extends { dispose(): void }>(thing: T): T => {
      taken.push(thing);
      return thing;
    };
    try {
      const weights = take(loadWeights(context, config, folder.weights, options.onBytes));
      const retriever = take(
        createRetriever({
          context,
          shape: config,
          maxTokens: options.maxTokens,
          maxSequences,
          ...(options.kvDtype && { kvDtype: options.kvDtype }),
          ...(options.policy && { policy: options.policy }),
          ...(options.capacityPages !== undefined && { capacityPages: options.capacityPages }),
        }),
      );
      const activations = take(createActivations(context, config, retriever.maxRows, maxSequences));
      const { theta, scaling } = config.rope;
      const values = ropeFrequencies({ headDim: config.headDim, theta, scaling });
      const frequencies = take(context.allocate(values.byteLength, "device"));
      frequencies.write(0, values);
      return new DecoderModel({ config, retriever, weights, activations, frequencies, maxSequences });
    } catch (error) {
      for (const thing of taken.reverse()) thing.dispose();
      throw error;
    }
  }

  /** Starts an empty sequence. */
  createSequence(): Sequence {
    this.#use();
    return this.retriever.createSequence();
  }

  /**
   * Reads one chunk of a prompt into `sequence`: at most `chunkTokens` tokens, dense and exact. With `logits`, the
   * logits of the last token can be read as row 0 afterwards.
   *
   * @throws InvalidArgumentError when the sequence would be longer than `maxTokens`; OutOfMemoryError when pages run out.
   */
  prefillChunk(sequence: Sequence, tokenIds: Int32Array, logits: boolean): void {
    this.#use();
    const step = this.retriever.beginStep([{ sequence, tokens: tokenIds.length }]);
    try {
      this.#activations.tokens.buffer.write(0, tokenIds);
      this.#queueLayers(step, (layer, rows) => this.retriever.queuePrefill(layer, step, rows));
      if (logits) this.#queueLogits(tokenIds.length - 1, 1);
      this.context.synchronize();
    } catch (error) {
      this.retriever.abortStep();
      throw error;
    }
    this.retriever.endStep();
  }

  /** Tokens that one prefill chunk may hold. */
  get chunkTokens(): number {
    return this.retriever.memory.zones.chunkTokens;
  }

  /**
   * Appends one token to each sequence and computes the logits of what follows: row i belongs to `sequences[i]`.
   *
   * @throws InvalidArgumentError when a sequence is full; OutOfMemoryError when pages run out.
   */
  decode(sequences: readonly Sequence[], tokenIds: Int32Array): void {
    this.#use();
    if (tokenIds.length !== sequences.length) {
      throw new InvalidArgumentError({
        argument: "tokenIds",
        expected: `one token for each of ${sequences.length} sequences`,
        received: tokenIds.length,
      });
    }
    const tape = this.#tape(sequences.length);
    this.retriever.beginStep(sequences.map((sequence) => ({ sequence })));
    try {
      this.#activations.tokens.buffer.write(0, tokenIds);
      tape.run();
    } catch (error) {
      this.retriever.abortStep();
      throw error;
    }
    this.retriever.endStep();
  }

  /** Copies the logits of one row into `target`, `[vocabSize] f32`. */
  readLogits(row: number, target: Float32Array): void {
    this.#use();
    this.#activations.logits.buffer.read(row * this.config.vocabSize * 4, target.subarray(0, this.config.vocabSize));
  }

  /** The token with the largest logit of each of the first `rowCount` rows, ties to the smaller id. */
  readBest(rowCount: number): Int32Array {
    this.#use();
    const best = new Int32Array(rowCount);
    this.#activations.best.buffer.read(0, best);
    return best;
  }

  /** Gives all memory back. The context stays. A second dispose does nothing. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const tape of this.#tapes.values()) tape.dispose();
    this.#frequencies.dispose();
    this.#activations.dispose();
    this.retriever.dispose();
    this.#weights.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #use(): void {
    if (this.#disposed) throw new DisposedError({ object: "DecoderModel" });
  }

  #tape(rowCount: number): Tape {
    const known = this.#tapes.get(rowCount);
    if (known) return known;
    if (rowCount < 1 || rowCount > this.#maxSequences) {
      throw new InvalidArgumentError({
        argument: "sequences",
        expected: `1 to ${this.#maxSequences} sequences`,
        received: rowCount,
      });
    }
    const step = this.retriever.step(rowCount);
    const tape = this.context.record(() => {
      this.#queueLayers(step, (layer, rows) => this.retriever.queueDecode(layer, step, rows));
      this.#queueLogits(0, rowCount);
    });
    this.#tapes.set(rowCount, tape);
    return tape;
  }

  #queueLayers(step: Step, attention: (layer: number, rows: { q: Rows; k: Rows; v: Rows; out: Rows }) => void): void {
    const { context, config } = this;
    const { rowCount } = step;
    const { hiddenSize, headDim, queryHeads, kvHeads, intermediateSize, rmsNormEps: eps } = config;
    const { tokens, hidden, normed, qkv, q, k, v, attention: attended, gateUp, mlp } = this.#activations;
    const { embedding, layers } = this.#weights;
    const frequencies = { buffer: this.#frequencies };
    const multiply = (x: Rows, weight: Matrix, inWidth: number, outWidth: number, out: Rows, more = {}) =>
      context.linear({ x, weight, dtype: weight.dtype, inWidth, outWidth, rowCount, out, ...more });

    const { dtype } = embedding;
    context.embed({
      tokens,
      weight: embedding,
      dtype,
      vocab: config.vocabSize,
      width: hiddenSize,
      rowCount,
      out: hidden,
    });
    for (const [layer, weights] of layers.entries()) {
      context.rmsnorm({ x: hidden, weight: weights.attentionNorm, eps, width: hiddenSize, rowCount, out: normed });
      const bias = weights.qkvBias && { bias: weights.qkvBias };
      multiply(normed, weights.qkv, hiddenSize, (queryHeads + 2 * kvHeads) * headDim, qkv, bias);
      if (weights.queryNorm && weights.keyNorm) {
        context.rmsnorm({ x: q, weight: weights.queryNorm, eps, width: headDim, groups: queryHeads, rowCount, out: q });
        context.rmsnorm({ x: k, weight: weights.keyNorm, eps, width: headDim, groups: kvHeads, rowCount, out: k });
      }
      // Query and key heads lie side by side, so one call turns both.
      context.rope({ x: q, heads: queryHeads + kvHeads, headDim, frequencies, step });
      attention(layer, { q, k, v, out: attended });
      multiply(attended, weights.output, queryHeads * headDim, hiddenSize, hidden, {
        accumulate: true,
        ...(weights.outputBias && { bias: weights.outputBias }),
      });
      context.rmsnorm({ x: hidden, weight: weights.mlpNorm, eps, width: hiddenSize, rowCount, out: normed });
      multiply(normed, weights.gateUp, hiddenSize, 2 * intermediateSize, gateUp);
      context.swiglu({ x: gateUp, width: intermediateSize, rowCount, out: mlp });
      multiply(mlp, weights.down, intermediateSize, hiddenSize, hidden, { accumulate: true });
    }
  }

  /** Logits of rows `firstRow .. firstRow + rowCount` of the residual stream, into logit rows 0 and on. */
  #queueLogits(firstRow: number, rowCount: number): void {
    const { context, config } = this;
    const { hidden, normed, logits, best } = this.#activations;
    const { finalNorm, head } = this.#weights;
    const x = { ...hidden, offsetBytes: firstRow * hidden.rowStride * 4 };
    const width = config.hiddenSize;
    context.rmsnorm({ x, weight: finalNorm, eps: config.rmsNormEps, width, rowCount, out: normed });
    context.linear({
      x: normed,
      weight: head,
      dtype: head.dtype,
      inWidth: width,
      outWidth: config.vocabSize,
      rowCount,
      out: logits,
    });
    context.argmax({ x: logits, width: config.vocabSize, rowCount, out: best });
  }
}
