import type { Context, DeviceBuffer, Dtype, Ref } from "@pariskv/kernels";
import { decodeBfloat16, decodeFloat16, UnsupportedError } from "@pariskv/quantizer";
import type { ModelConfig } from "../model-files/config.js";
import type { ModelWeights } from "../model-files/model-weights.js";

/** A weight matrix on the device, `[outputs, inputs]`, as stored. */
export interface Matrix extends Ref {
  readonly dtype: Dtype;
}

/** The weights of one layer; matrices that read the same input are one, rows one after the other. */
export interface LayerWeights {
  readonly attentionNorm: Ref;
  /** Query, key and value projections: `[(queryHeads + 2 kvHeads) headDim, hiddenSize]`. */
  readonly qkv: Matrix;
  readonly qkvBias?: Ref;
  readonly queryNorm?: Ref;
  readonly keyNorm?: Ref;
  readonly output: Matrix;
  readonly outputBias?: Ref;
  readonly mlpNorm: Ref;
  /** Gate, then up: `[2 intermediateSize, hiddenSize]`. */
  readonly gateUp: Matrix;
  readonly down: Matrix;
}

/** All weights of a model on one context. Norms and biases are f32. */
export interface DeviceWeights {
  readonly embedding: Matrix;
  readonly layers: readonly LayerWeights[];
  readonly finalNorm: Ref;
  /** `[vocabSize, hiddenSize]`; the embedding itself when tied. */
  readonly head: Matrix;
  readonly bytes: number;
  dispose(): void;
}

const DTYPE_OF_ELEMENT: Readonly<Record<string, Dtype>> = { F32: "f32", BF16: "bf16", F16: "f16" };

/**
 * Reads the weights to the device, tensor by tensor. `onBytes` is told the bytes read so far.
 *
 * @throws ModelFileError when a file changed since it was opened.
 * @throws OutOfMemoryError when the device cannot hold them; nothing is leaked.
 */
export function loadWeights(
  context: Context,
  config: ModelConfig,
  weights: ModelWeights,
  onBytes: (bytes: number) => void = () => {},
): DeviceWeights {
  const buffers: DeviceBuffer[] = [];
  let readBytes = 0;
  const read = (name: string) => {
    const entry = weights.tensor(name);
    if (!entry) throw new UnsupportedError({ feature: `weights without ${name}` });
    const bytes = new Uint8Array(entry.sizeBytes);
    weights.readTensorInto(name, bytes);
    readBytes += bytes.length;
    onBytes(readBytes);
    return { bytes, dtype: DTYPE_OF_ELEMENT[entry.elementType] as Dtype };
  };
  const place = (parts: readonly Uint8Array[]): DeviceBuffer => {
    const buffer = context.allocate(
      parts.reduce((sum, part) => sum + part.length, 0),
      "device",
    );
    buffers.push(buffer);
    let offset = 0;
    for (const part of parts) {
      buffer.write(offset, part);
      offset += part.length;
    }
    return buffer;
  };
  const matrix = (...names: string[]): Matrix => {
    const parts = names.map(read);
    const dtypes = new Set(parts.map((part) => part.dtype));
    if (dtypes.size > 1) throw new UnsupportedError({ feature: `${names.join(", ")} stored in different types` });
    return { buffer: place(parts.map((part) => part.bytes)), dtype: (parts[0] as { dtype: Dtype }).dtype };
  };
  const vector = (...names: string[]): Ref => ({
    buffer: place(names.map((name) => new Uint8Array(toFloat32(read(name)).buffer))),
  });
  const layer = (index: number): LayerWeights => {
    const prefix = `model.layers.${index}`;
    const attention = `${prefix}.self_attn`;
    const projections = ["q", "k", "v"].map((name) => `${attention}.${name}_proj`);
    return {
      attentionNorm: vector(`${prefix}.input_layernorm.weight`),
      qkv: matrix(...projections.map((name) => `${name}.weight`)),
      ...(config.attentionBias !== "none" && { qkvBias: vector(...projections.map((name) => `${name}.bias`)) }),
      ...(config.qkNorm && {
        queryNorm: vector(`${attention}.q_norm.weight`),
        keyNorm: vector(`${attention}.k_norm.weight`),
      }),
      output: matrix(`${attention}.o_proj.weight`),
      ...(config.attentionBias === "qkvo" && { outputBias: vector(`${attention}.o_proj.bias`) }),
      mlpNorm: vector(`${prefix}.post_attention_layernorm.weight`),
      gateUp: matrix(`${prefix}.mlp.gate_proj.weight`, `${prefix}.mlp.up_proj.weight`),
      down: matrix(`${prefix}.mlp.down_proj.weight`),
    };
  };
  try {
    const embedding = matrix("model.embed_tokens.weight");
    const layers = Array.from({ length: config.layers }, (_, index) => layer(index));
    const finalNorm = vector("model.norm.weight");
    const head = config.tiedEmbeddings ? embedding : matrix("lm_head.weight");
    return {
      embedding,
      layers,
      finalNorm,
      head,
      bytes: buffers.reduce((sum, buffer) => sum + buffer.bytes, 0),
      dispose: () => {
        for (const buffer of buffers) buffer.dispose();
      },
    };
  } catch (error) {
    for (const buffer of buffers) buffer.dispose();
    throw error;
  }
}

function toFloat32({ bytes, dtype }: { bytes: Uint8Array; dtype: Dtype }): Float32Array {
  if (dtype === "f32") return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  const values = new Float32Array(halves.length);
  (dtype === "bf16" ? decodeBfloat16 : decodeFloat16)(halves, values);
  return values;
}
