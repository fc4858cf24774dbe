import { setImmediate } from "node:timers/promises";
import type { Context, DeviceBuffer, Dtype, Ref } from "@pariskv/kernels";
import { decodeBfloat16, decodeFloat16, UnsupportedError } from "@pariskv/quantizer";
import type { ModelConfig } from "../model-files/config.js";
import type { ModelWeights } from "../model-files/model-weights.js";
import type { TensorEntry } from "../model-files/safetensors-header.js";

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

/** Bytes that are read at once: what the host holds of the weights beside the device's memory. */
const CHUNK_BYTES = 8 * 1024 * 1024;

/** How weights are read. */
export interface LoadOptions {
  /** Told the bytes read so far, each time a chunk of at most 8 MiB is on the device. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
  /** Stops between two chunks. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads the weights to the device chunk by chunk, and gives the event loop a turn after each.
 *
 * @throws ModelFileError when a file changed since it was opened.
 * @throws UnsupportedError when projections of one layer that are joined here are stored in different types.
 * @throws OutOfMemoryError when the device cannot hold them; nothing is leaked, also not when `signal` is aborted.
 */
export async function loadWeights(
  context: Context,
  config: ModelConfig,
  weights: ModelWeights,
  options: LoadOptions = {},
): Promise<DeviceWeights> {
  const buffers: DeviceBuffer[] = [];
  const dispose = () => {
    for (const buffer of buffers) buffer.dispose();
  };
  const allocate = (bytes: number): DeviceBuffer => {
    const buffer = context.allocate(bytes, "device");
    buffers.push(buffer);
    return buffer;
  };
  const sizeBytes = (name: string) => (weights.tensor(name) as TensorEntry).sizeBytes;
  let readBytes = 0;
  const arrived = async (bytes: number) => {
    readBytes += bytes;
    options.onBytes?.(readBytes);
    await setImmediate();
    options.signal?.throwIfAborted();
  };
  const chunk = new Uint8Array(CHUNK_BYTES);
  const matrix = async (...names: string[]): Promise<Matrix> => {
    const dtype = requireOneDtype(weights, names);
    const buffer = allocate(names.reduce((sum, name) => sum + sizeBytes(name), 0));
    let offsetBytes = 0;
    for (const name of names) {
      for (let doneBytes = 0; doneBytes < sizeBytes(name); ) {
        const part = chunk.subarray(0, Math.min(CHUNK_BYTES, sizeBytes(name) - doneBytes));
        weights.readTensorPart(name, doneBytes, part);
        buffer.write(offsetBytes, part);
        doneBytes += part.length;
        offsetBytes += part.length;
        await arrived(part.length);
      }
    }
    return { buffer, dtype };
  };
  const vector = async (...names: string[]): Promise<Ref> => {
    const parts = names.map((name) => {
      const bytes = new Uint8Array(sizeBytes(name));
      weights.readTensorInto(name, bytes);
      return toFloat32(bytes, weights.dtype(name));
    });
    const buffer = allocate(parts.reduce((sum, part) => sum + part.byteLength, 0));
    let offsetBytes = 0;
    for (const part of parts) {
      buffer.write(offsetBytes, part);
      offsetBytes += part.byteLength;
    }
    await arrived(names.reduce((sum, name) => sum + sizeBytes(name), 0));
    return { buffer };
  };
  const layer = async (index: number): Promise<LayerWeights> => {
    const prefix = `model.layers.${index}`;
    const attention = `${prefix}.self_attn`;
    const projections = ["q", "k", "v"].map((name) => `${attention}.${name}_proj`);
    return {
      attentionNorm: await vector(`${prefix}.input_layernorm.weight`),
      qkv: await matrix(...projections.map((name) => `${name}.weight`)),
      ...(config.attentionBias !== "none" && { qkvBias: await vector(...projections.map((name) => `${name}.bias`)) }),
      ...(config.qkNorm && {
        queryNorm: await vector(`${attention}.q_norm.weight`),
        keyNorm: await vector(`${attention}.k_norm.weight`),
      }),
      output: await matrix(`${attention}.o_proj.weight`),
      ...(config.attentionBias === "qkvo" && { outputBias: await vector(`${attention}.o_proj.bias`) }),
      mlpNorm: await vector(`${prefix}.post_attention_layernorm.weight`),
      gateUp: await matrix(`${prefix}.mlp.gate_proj.weight`, `${prefix}.mlp.up_proj.weight`),
      down: await matrix(`${prefix}.mlp.down_proj.weight`),
    };
  };
  try {
    const embedding = await matrix("model.embed_tokens.weight");
    const layers: LayerWeights[] = [];
    for (let index = 0; index < config.layers; index++) layers.push(await layer(index));
    const finalNorm = await vector("model.norm.weight");
    const head = config.tiedEmbeddings ? embedding : await matrix("lm_head.weight");
    const bytes = buffers.reduce((sum, buffer) => sum + buffer.bytes, 0);
    return { embedding, layers, finalNorm, head, bytes, dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** The type that all of `names` are stored in. */
function requireOneDtype(weights: ModelWeights, names: readonly string[]): Dtype {
  const dtypes = new Set(names.map((name) => weights.dtype(name)));
  if (dtypes.size > 1) throw new UnsupportedError({ feature: `${names.join(", ")} stored in different types` });
  return [...dtypes][0] as Dtype;
}

function toFloat32(bytes: Uint8Array, dtype: Dtype): Float32Array {
  if (dtype === "f32") return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  const values = new Float32Array(halves.length);
  (dtype === "bf16" ? decodeBfloat16 : decodeFloat16)(halves, values);
  return values;
}
