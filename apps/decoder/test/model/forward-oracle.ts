import type { ModelConfig } from "../../src/model-files/config.js";
import type { WeightValues } from "./random-model.js";

/**
 * Logits of every position of a token sequence in float64, written from the definition of the model families and from
 * nothing of the decoder: `[tokens][vocabSize]`.
 */
export function forwardOracle(config: ModelConfig, weights: WeightValues, tokenIds: readonly number[]): number[][] {
  const w = (name: string) => weights.get(name) as Float32Array;
  const { hiddenSize, headDim, queryHeads, kvHeads, intermediateSize, rmsNormEps } = config;
  const x = tokenIds.map((id) =>
    Array.from(w("model.embed_tokens.weight").subarray(id * hiddenSize, (id + 1) * hiddenSize)),
  );
  for (let layer = 0; layer < config.layers; layer++) {
    const prefix = `model.layers.${layer}`;
    const attention = `${prefix}.self_attn`;
    const project = (row: number[], name: string, outputs: number) =>
      matrixTimes(w(`${attention}.${name}_proj.weight`), row, outputs, weights.get(`${attention}.${name}_proj.bias`));
    const heads = (row: number[], position: number, norm: string) => {
      const split = Array.from({ length: row.length / headDim }, (_, head) =>
        row.slice(head * headDim, (head + 1) * headDim),
      );
      const normed = weights.has(`${attention}.${norm}.weight`)
        ? split.map((head) => rmsNorm(head, w(`${attention}.${norm}.weight`), rmsNormEps))
        : split;
      return normed.map((head) => rotate(head, position, config));
    };
    const normed = x.map((row) => rmsNorm(row, w(`${prefix}.input_layernorm.weight`), rmsNormEps));
    const q = normed.map((row, position) => heads(project(row, "q", queryHeads * headDim), position, "q_norm"));
    const k = normed.map((row, position) => heads(project(row, "k", kvHeads * headDim), position, "k_norm"));
    const v = normed.map((row) => project(row, "v", kvHeads * headDim));
    for (let position = 0; position < x.length; position++) {
      const attended: number[] = [];
      for (let head = 0; head < queryHeads; head++) {
        const kvHead = Math.floor((head * kvHeads) / queryHeads);
        const logits = k
          .slice(0, position + 1)
          .map((keys) => dot(keys[kvHead] as number[], q[position]?.[head] as number[]) / Math.sqrt(headDim));
        const most = Math.max(...logits);
        const shares = logits.map((logit) => Math.exp(logit - most));
        const total = shares.reduce((sum, share) => sum + share, 0);
        for (let dim = 0; dim < headDim; dim++) {
          attended.push(
            shares.reduce((sum, share, t) => sum + (share / total) * (v[t]?.[kvHead * headDim + dim] as number), 0),
          );
        }
      }
      const row = x[position] as number[];
      project(attended, "o", hiddenSize).forEach((value, index) => {
        row[index] = (row[index] as number) + value;
      });
      const mlpInput = rmsNorm(row, w(`${prefix}.post_attention_layernorm.weight`), rmsNormEps);
      const gate = matrixTimes(w(`${prefix}.mlp.gate_proj.weight`), mlpInput, intermediateSize);
      const up = matrixTimes(w(`${prefix}.mlp.up_proj.weight`), mlpInput, intermediateSize);
      const inner = gate.map((value, index) => (value / (1 + Math.exp(-value))) * (up[index] as number));
      matrixTimes(w(`${prefix}.mlp.down_proj.weight`), inner, hiddenSize).forEach((value, index) => {
        row[index] = (row[index] as number) + value;
      });
    }
  }
  const head = w(config.tiedEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight");
  return x.map((row) => matrixTimes(head, rmsNorm(row, w("model.norm.weight"), rmsNormEps), config.vocabSize));
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let index = 0; index < a.length; index++) sum += (a[index] as number) * (b[index] as number);
  return sum;
}

function matrixTimes(matrix: Float32Array, x: readonly number[], outputs: number, bias?: Float32Array): number[] {
  return Array.from(
    { length: outputs },
    (_, row) => dot(matrix.subarray(row * x.length, (row + 1) * x.length), x) + (bias?.[row] ?? 0),
  );
}

function rmsNorm(x: readonly number[], weight: Float32Array, eps: number): number[] {
  const scale = 1 / Math.sqrt(dot(x, x) / x.length + eps);
  return x.map((value, index) => value * scale * (weight[index] as number));
}

function rotate(head: readonly number[], position: number, config: ModelConfig): number[] {
  const half = head.length / 2;
  const out = [...head];
  for (let pair = 0; pair < half; pair++) {
    const angle = position * frequency(config, pair);
    const [a, b] = [head[pair] as number, head[pair + half] as number];
    out[pair] = a * Math.cos(angle) - b * Math.sin(angle);
    out[pair + half] = b * Math.cos(angle) + a * Math.sin(angle);
  }
  return out;
}

/** Radians a token of one pair; Llama 3 slows down the pairs whose wavelength is long against the first context. */
function frequency({ headDim, rope }: ModelConfig, pair: number): number {
  const plain = rope.theta ** ((-2 * pair) / headDim);
  if (rope.scaling.type === "none") return plain;
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = rope.scaling;
  const turns = (originalMaxPositions * plain) / (2 * Math.PI);
  if (turns > highFreqFactor) return plain;
  if (turns < lowFreqFactor) return plain / factor;
  const smooth = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return (1 - smooth) * (plain / factor) + smooth * plain;
}
