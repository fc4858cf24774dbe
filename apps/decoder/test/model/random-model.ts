import { mkdirSync } from "node:fs";
import { encodeBfloat16, encodeFloat16 } from "@pariskv/quantizer";
import { parseModelConfig } from "../../src/model-files/config.js";
import { expectedTensors } from "../../src/model-files/expected-tensors.js";
import { entry, safetensorsBytes } from "../model-files/safetensors-bytes.js";
import { write } from "../model-files/temporary-folder.js";

/** Weights by name, f32 values exactly as the file holds them. */
export type WeightValues = ReadonlyMap<string, Float32Array>;

/** A small seeded generator: normal numbers by Box and Muller over a 32-bit linear generator. */
export function normals(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

/**
 * Writes a model folder with random weights and returns the values, rounded as stored: projections small enough that a
 * few layers keep the residual stream near 1, norms near 1, biases small.
 */
export function writeRandomModel(
  path: string,
  config: object,
  dtype: "F32" | "BF16" | "F16",
  seed: number,
): WeightValues {
  const random = normals(seed);
  const values = new Map<string, Float32Array>();
  const header: Record<string, unknown> = {};
  const parts: Uint8Array[] = [];
  let offset = 0;
  for (const { name, shape } of expectedTensors(parseModelConfig(config, "config.json"))) {
    const count = shape.reduce((product, size) => product * size, 1);
    const isNorm = name.includes("norm");
    const scale = shape.length === 2 && !name.includes("embed") ? 1 / Math.sqrt(shape[1] as number) : 0.1;
    const exact = Float32Array.from({ length: count }, () => (isNorm ? 1 : 0) + scale * random());
    const bytes = store(exact, dtype);
    header[name] = entry(dtype, shape, offset, offset + bytes.length);
    offset += bytes.length;
    parts.push(bytes);
    values.set(name, exact);
  }
  mkdirSync(path, { recursive: true });
  write(path, "config.json", config);
  write(path, "model.safetensors", safetensorsBytes({ header, data: Buffer.concat(parts) }));
  write(path, "tokenizer.json", "{}");
  return values;
}

/** The stored bytes; rounds `values` in place to what they say. */
function store(values: Float32Array, dtype: "F32" | "BF16" | "F16"): Uint8Array {
  if (dtype === "F32") return new Uint8Array(values.slice().buffer);
  const halves = new Uint16Array(values.length);
  (dtype === "BF16" ? encodeBfloat16 : encodeFloat16)(values, halves);
  for (const [index, half] of halves.entries()) values[index] = dtype === "BF16" ? fromBf16(half) : fromF16(half);
  return new Uint8Array(halves.buffer);
}

function fromBf16(half: number): number {
  return new Float32Array(Uint32Array.of(half << 16).buffer)[0] as number;
}

/** By the definition of IEEE binary16; the weights here are finite and not tiny. */
function fromF16(half: number): number {
  const exponent = (half >> 10) & 31;
  const mantissa = half & 1023;
  const magnitude = exponent === 0 ? mantissa * 2 ** -24 : (1 + mantissa / 1024) * 2 ** (exponent - 15);
  return half >> 15 ? -magnitude : magnitude;
}
