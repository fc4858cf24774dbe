import type { Context, DeviceBuffer, Dtype, Tape } from "@pariskv/kernels";
import { ropeFrequencies } from "@pariskv/kernels/dense";
import type { KvMemoryBytes } from "@pariskv/memory";
import { DisposedError, InvalidArgumentError, requireInteger } from "@pariskv/quantizer";
import { createRetriever, type RetrievalPolicy, type Retriever, type Sequence } from "@pariskv/retrieval";
import type { ModelConfig } from "../model-files/config.js";
import type { ModelFolder } from "../model-files/model-folder.js";
import { type Activations, activationBytes, createActivations } from "./activations.js";
import { ForwardPass } from "./forward-pass.js";
import { type DeviceWeights, loadWeights } from "./load-weights.js";
import { requireSupportedShape } from "./supported-shape.js";

/**
 * Tokens that one prefill chunk of plain TypeScript holds: it reads about a hundred a second and has one thread, and
 * between two chunks the program hears an interrupt.
 */
const REFERENCE_CHUNK_TOKENS = 32;

/** How a model is put on a device. */
export interface DecoderModelOptions {
  readonly context: Context;
  /** Longest sequence, in tokens: at most the model's `maxPositions`. */
  readonly maxTokens: number;
  /** Sequences at the same time. Default 1. */
  readonly maxSequences?: number;
  /** Element type of the stored K and V. Default `bf16`. */
  readonly kvDtype?: Dtype;
  /** How keys are found. Default: the retriever's. */
  readonly policy?: Partial<RetrievalPolicy>;
  /** Whether the statistics of each step estimate the attention mass that was left out. Default false. */
  readonly estimateMass?: boolean;
  /** Pages of all sequences together; fewer than the default are enough when sequences share a prefix. */
  readonly capacityPages?: number;
  /** Told the bytes of weights read so far. */
  readonly onBytes?: (bytes: number) => void;
  /** Stops the loading of weights. */
  readonly signal?: AbortSignal;
}

/** Bytes that a decoder holds, by what they are for. */
export interface DecoderBytes extends KvMemoryBytes {
  readonly weights: number;
  /** Workspaces of the retrieval stages, and activations. */
  readonly workspaces: number;
}

/**
 * A Llama, Qwen2 or Qwen3 model on one context: embedding, layers of attention and MLP, output projection.
 *
 * The steps are recorded once for each number of rows and then run with one call: a decode step a token, prefill chunk
 * by chunk away from the JavaScript thread. Attention is the retriever's.
 */
export class DecoderModel {
  readonly config: ModelConfig;
  readonly context: Context;
  readonly retriever: Retriever;
  readonly #weights: DeviceWeights;
  readonly #activations: Activations;
  readonly #frequencies: DeviceBuffer;
  readonly #forward: ForwardPass;
  readonly #maxSequences: number;
  readonly #decodeTapes = new Map<number, Tape>();
  #chunkTape: Tape | undefined;
  #disposed = false;

  private constructor(parts: {
    readonly config: ModelConfig;
    readonly retriever: Retriever;
    readonly weights: DeviceWeights;
    readonly activations: Activations;
    readonly frequencies: DeviceBuffer;
    readonly maxSequences: number;
  }) {
    const { config, retriever, weights, activations, frequencies } = parts;
    const { context } = retriever;
    this.config = config;
    this.context = context;
    this.retriever = retriever;
    this.#weights = weights;
    this.#activations = activations;
    this.#frequencies = frequencies;
    this.#maxSequences = parts.maxSequences;
    this.#forward = new ForwardPass({ context, config, weights, activations, frequencies: { buffer: frequencies } });
  }

  /**
   * Reads a model folder's weights to the device and takes all memory that decoding needs but the pages.
   *
   * @throws UnsupportedError for a shape of attention that no backend computes, and InvalidArgumentError when `maxTokens`
   * is beyond the model, both before anything is read.
   * @throws OutOfMemoryError when it does not fit, and the reason of `signal` when it is aborted; nothing is leaked.
   * @throws ModelFileError when a weight file changed since it was opened.
   */
  static async load(folder: ModelFolder, options: DecoderModelOptions): Promise<DecoderModel> {
    const { config } = folder;
    const { context, maxTokens, maxSequences = 1, onBytes, signal } = options;
    requireSupportedShape(config, folder.path);
    requireInteger("maxTokens", maxTokens, 1, config.maxPositions);
    const taken: { dispose(): void }[] = [];
    const take = <T extends { dispose(): void }>(thing: T): T => {
      taken.push(thing);
      return thing;
    };
    try {
      const weights = take(await loadWeights(context, config, folder.weights, { onBytes, signal }));
      const retriever = take(
        createRetriever({
          context,
          shape: config,
          maxTokens,
          maxSequences,
          ...(options.kvDtype && { kvDtype: options.kvDtype }),
          ...(options.policy && { policy: options.policy }),
          ...(options.estimateMass && { estimateMass: true }),
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

  /** Longest sequence, in tokens. */
  get maxTokens(): number {
    return this.retriever.memory.maxTokens;
  }

  /** Most tokens of one prefill chunk. */
  get chunkTokens(): number {
    const { chunkTokens } = this.retriever.memory.zones;
    return this.context.device === "reference" ? Math.min(REFERENCE_CHUNK_TOKENS, chunkTokens) : chunkTokens;
  }

  /** Bytes taken so far, by purpose; summaries and records grow as pages are sealed. */
  get bytes(): DecoderBytes {
    const { plan, memory, maxRows } = this.retriever;
    const workspaces = plan.bytes + activationBytes(this.config, maxRows, this.#maxSequences);
    return { weights: this.#weights.bytes, workspaces, ...memory.bytes };
  }

  /** Starts an empty sequence. Throws OutOfMemoryError when `maxSequences` are alive. */
  createSequence(): Sequence {
    this.#use();
    return this.retriever.createSequence();
  }

  /**
   * Reads one chunk of a prompt into `sequence`: at most `chunkTokens` tokens, dense and exact. With `logits`, which the
   * last chunk has, the logits of the last token can be read as row 0 afterwards.
   *
   * @throws InvalidArgumentError when the chunk is empty or too long, or the sequence would be longer than `maxTokens`;
   * OutOfMemoryError when pages run out.
   */
  async prefillChunk(sequence: Sequence, tokenIds: Int32Array, logits: boolean): Promise<void> {
    this.#use();
    requireInteger("tokenIds.length", tokenIds.length, 1, this.chunkTokens);
    this.retriever.beginStep([{ sequence, tokens: tokenIds.length, more: !logits }]);
    try {
      this.#activations.tokens.buffer.write(0, tokenIds);
      await this.#runPrefill(tokenIds.length, logits);
    } catch (error) {
      this.retriever.abortStep();
      throw error;
    }
    this.retriever.endStep();
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
    const tape = this.#decodeTape(sequences.length);
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

  /**
   * Copies the logits of one row into `target`, `[vocabSize] f32`.
   *
   * @throws InvalidArgumentError when there is no such row or `target` has another length.
   */
  readLogits(row: number, target: Float32Array): void {
    this.#use();
    requireInteger("row", row, 0, this.#maxSequences - 1);
    requireInteger("target.length", target.length, this.config.vocabSize, this.config.vocabSize);
    this.#activations.logits.buffer.read(row * target.byteLength, target);
  }

  /**
   * The token with the largest logit of each of the first `rowCount` rows, ties to the smaller id: `[rowCount] i32`.
   *
   * @throws InvalidArgumentError when there are fewer rows.
   */
  readBest(rowCount: number): Int32Array {
    this.#use();
    requireInteger("rowCount", rowCount, 1, this.#maxSequences);
    const best = new Int32Array(rowCount);
    this.#activations.best.buffer.read(0, best);
    return best;
  }

  /** Gives all memory back. The context stays. A second dispose does nothing. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const tape of this.#decodeTapes.values()) tape.dispose();
    this.#chunkTape?.dispose();
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

  #decodeTape(rowCount: number): Tape {
    const known = this.#decodeTapes.get(rowCount);
    if (known) return known;
    requireInteger("sequences.length", rowCount, 1, this.#maxSequences);
    const step = this.retriever.step(rowCount);
    const tape = this.context.record(() => {
      this.#forward.queueLayers(step, (layer, rows) => this.retriever.queueDecode(layer, step, rows));
      this.#forward.queueLogits(0, rowCount);
    });
    this.#decodeTapes.set(rowCount, tape);
    return tape;
  }

  /** Full chunks without logits are most of a prompt and share one tape; any other is recorded for its one run. */
  async #runPrefill(rowCount: number, logits: boolean): Promise<void> {
    if (rowCount === this.chunkTokens && !logits) {
      this.#chunkTape ??= this.#recordPrefill(rowCount, logits);
      return this.#chunkTape.runAsync();
    }
    const tape = this.#recordPrefill(rowCount, logits);
    try {
      await tape.runAsync();
    } finally {
      tape.dispose();
    }
  }

  #recordPrefill(rowCount: number, logits: boolean): Tape {
    const step = this.retriever.step(rowCount);
    return this.context.record(() => {
      this.#forward.queueLayers(step, (layer, rows) => this.retriever.queuePrefill(layer, step, rows));
      if (logits) this.#forward.queueLogits(rowCount - 1, 1);
    });
  }
}
