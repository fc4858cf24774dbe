import type { Context, Ref, Rows, Step } from "@pariskv/kernels";
import type { AttentionRows } from "@pariskv/retrieval";
import type { ModelConfig } from "../model-files/config.js";
import type { Activations } from "./activations.js";
import type { DeviceWeights, LayerWeights, Matrix } from "./load-weights.js";

/** What a forward pass works on. */
export interface ForwardPassParts {
  readonly context: Context;
  readonly config: ModelConfig;
  readonly weights: DeviceWeights;
  readonly activations: Activations;
  /** `[headDim / 2] f32`: radians a token of each rotary pair. */
  readonly frequencies: Ref;
}

/** Queues the attention of one layer; all rows of the step are appended by it. */
export type QueueAttention = (layer: number, rows: AttentionRows) => void;

/**
 * The operators of a Llama, Qwen2 or Qwen3 model in the order of their work, attention left out: embedding, layers,
 * output projection. Everything is only queued, so that a decode step can be recorded as a tape.
 */
export class ForwardPass {
  readonly #parts: ForwardPassParts;

  constructor(parts: ForwardPassParts) {
    this.#parts = parts;
  }

  /** Queues the layers over the rows of `step`, from the tokens in `activations` to its residual stream. */
  queueLayers(step: Step, attention: QueueAttention): void {
    const { context, config, weights, activations } = this.#parts;
    const { tokens, hidden } = activations;
    const { embedding } = weights;
    context.embed({
      tokens,
      weight: embedding,
      dtype: embedding.dtype,
      vocab: config.vocabSize,
      width: config.hiddenSize,
      rowCount: step.rowCount,
      out: hidden,
    });
    for (const [layer, layerWeights] of weights.layers.entries()) {
      this.#queueAttention(layerWeights, step, (rows) => attention(layer, rows));
      this.#queueMlp(layerWeights, step.rowCount);
    }
  }

  /** Queues the logits of rows `firstRow .. firstRow + rowCount` of the residual stream, into logit rows 0 and on. */
  queueLogits(firstRow: number, rowCount: number): void {
    const { context, config, weights, activations } = this.#parts;
    const { hidden, normed, logits, best } = activations;
    const x = { ...hidden, offsetBytes: firstRow * hidden.rowStride * 4 };
    this.#normalize(x, weights.finalNorm, rowCount);
    this.#multiply(normed, weights.head, rowCount, config.hiddenSize, config.vocabSize, logits);
    context.argmax({ x: logits, width: config.vocabSize, rowCount, out: best });
  }

  #queueAttention(weights: LayerWeights, step: Step, attention: (rows: AttentionRows) => void): void {
    const { context, config, activations, frequencies } = this.#parts;
    const { rowCount } = step;
    const { hiddenSize, headDim, queryHeads, kvHeads, rmsNormEps: eps } = config;
    const { hidden, normed, qkv, q, k, v, attention: attended } = activations;
    this.#normalize(hidden, weights.attentionNorm, rowCount);
    const bias = weights.qkvBias && { bias: weights.qkvBias };
    this.#multiply(normed, weights.qkv, rowCount, hiddenSize, (queryHeads + 2 * kvHeads) * headDim, qkv, bias);
    if (weights.queryNorm && weights.keyNorm) {
      context.rmsnorm({ x: q, weight: weights.queryNorm, eps, width: headDim, groups: queryHeads, rowCount, out: q });
      context.rmsnorm({ x: k, weight: weights.keyNorm, eps, width: headDim, groups: kvHeads, rowCount, out: k });
    }
    // Query and key heads lie side by side, so one call turns both.
    context.rope({ x: q, heads: queryHeads + kvHeads, headDim, frequencies, step });
    attention({ q, k, v, out: attended });
    const outputBias = weights.outputBias && { bias: weights.outputBias };
    const addTo = { accumulate: true, ...outputBias };
    this.#multiply(attended, weights.output, rowCount, queryHeads * headDim, hiddenSize, hidden, addTo);
  }

  #queueMlp(weights: LayerWeights, rowCount: number): void {
    const { context, config, activations } = this.#parts;
    const { hiddenSize, intermediateSize: width } = config;
    const { hidden, normed, gateUp, mlp } = activations;
    this.#normalize(hidden, weights.mlpNorm, rowCount);
    this.#multiply(normed, weights.gateUp, rowCount, hiddenSize, 2 * width, gateUp);
    context.swiglu({ x: gateUp, width, rowCount, out: mlp });
    this.#multiply(mlp, weights.down, rowCount, width, hiddenSize, hidden, { accumulate: true });
  }

  /** Rows of the residual stream, normalised, into `normed`. */
  #normalize(x: Rows, weight: Ref, rowCount: number): void {
    const { context, config, activations } = this.#parts;
    const { rmsNormEps: eps, hiddenSize: width } = config;
    context.rmsnorm({ x, weight, eps, width, rowCount, out: activations.normed });
  }

  #multiply(
    x: Rows,
    weight: Matrix,
    rowCount: number,
    inWidth: number,
    outWidth: number,
    out: Rows,
    more: { readonly bias?: Ref; readonly accumulate?: boolean } = {},
  ): void {
    const { context } = this.#parts;
    context.linear({ x, weight, dtype: weight.dtype, inWidth, outWidth, rowCount, out, ...more });
  }
}
