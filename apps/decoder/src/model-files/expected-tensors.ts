import type { ModelConfig } from "./config.js";

/** A tensor that a model must have, by its Hugging Face name. */
export interface ExpectedTensor {
  readonly name: string;
  /** Outer to inner: a projection is `[outputs, inputs]`. */
  readonly shape: readonly number[];
}

/** The tensors of a whole model in the order of use: embedding, layers, last norm, output projection unless tied. */
export function* expectedTensors(config: ModelConfig): Generator<ExpectedTensor> {
  yield { name: "model.embed_tokens.weight", shape: [config.vocabSize, config.hiddenSize] };
  for (let layer = 0; layer < config.layers; layer += 1) yield* expectedLayerTensors(config, layer);
  yield { name: "model.norm.weight", shape: [config.hiddenSize] };
  if (!config.tiedEmbeddings) yield { name: "lm_head.weight", shape: [config.vocabSize, config.hiddenSize] };
}

function* expectedLayerTensors(config: ModelConfig, layer: number): Generator<ExpectedTensor> {
  const { hiddenSize, intermediateSize, headDim, attentionBias } = config;
  const queryWidth = config.queryHeads * headDim;
  const kvWidth = config.kvHeads * headDim;
  const prefix = `model.layers.${layer}`;
  const attention = `${prefix}.self_attn`;
  yield { name: `${prefix}.input_layernorm.weight`, shape: [hiddenSize] };
  yield { name: `${attention}.q_proj.weight`, shape: [queryWidth, hiddenSize] };
  yield { name: `${attention}.k_proj.weight`, shape: [kvWidth, hiddenSize] };
  yield { name: `${attention}.v_proj.weight`, shape: [kvWidth, hiddenSize] };
  yield { name: `${attention}.o_proj.weight`, shape: [hiddenSize, queryWidth] };
  if (attentionBias !== "none") {
    yield { name: `${attention}.q_proj.bias`, shape: [queryWidth] };
    yield { name: `${attention}.k_proj.bias`, shape: [kvWidth] };
    yield { name: `${attention}.v_proj.bias`, shape: [kvWidth] };
  }
  if (attentionBias === "qkvo") yield { name: `${attention}.o_proj.bias`, shape: [hiddenSize] };
  if (config.qkNorm) {
    yield { name: `${attention}.q_norm.weight`, shape: [headDim] };
    yield { name: `${attention}.k_norm.weight`, shape: [headDim] };
  }
  yield { name: `${prefix}.post_attention_layernorm.weight`, shape: [hiddenSize] };
  yield { name: `${prefix}.mlp.gate_proj.weight`, shape: [intermediateSize, hiddenSize] };
  yield { name: `${prefix}.mlp.up_proj.weight`, shape: [intermediateSize, hiddenSize] };
  yield { name: `${prefix}.mlp.down_proj.weight`, shape: [hiddenSize, intermediateSize] };
}
