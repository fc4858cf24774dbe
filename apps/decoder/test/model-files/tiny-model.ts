import { mkdirSync } from "node:fs";
import { parseModelConfig } from "../../src/model-files/config.js";
import { expectedTensors } from "../../src/model-files/expected-tensors.js";
import { entry, safetensorsBytes } from "./safetensors-bytes.js";
import { write } from "./temporary-folder.js";

/** A config.json of one small layer. */
export const TINY_CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  num_hidden_layers: 1,
  hidden_size: 8,
  intermediate_size: 12,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 16,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  hidden_act: "silu",
  bos_token_id: 0,
  eos_token_id: 1,
};

/** The bytes of a safetensors file with all tensors that `config` asks for, bf16, all zero; `leaveOut` drops some. */
export function tinyWeights(config: object, leaveOut: (name: string) => boolean = () => false): Uint8Array {
  const header: Record<string, unknown> = {};
  let offsetBytes = 0;
  for (const { name, shape } of expectedTensors(parseModelConfig(config, "config.json"))) {
    if (leaveOut(name)) continue;
    const endBytes = offsetBytes + 2 * shape.reduce((product, size) => product * size, 1);
    header[name] = entry("BF16", shape, offsetBytes, endBytes);
    offsetBytes = endBytes;
  }
  return safetensorsBytes({ header, data: new Uint8Array(offsetBytes) });
}

/** Writes a whole model folder and returns its path. */
export function writeTinyModel(path: string, config: object = TINY_CONFIG): string {
  mkdirSync(path, { recursive: true });
  write(path, "config.json", config);
  write(path, "model.safetensors", tinyWeights(config));
  write(path, "tokenizer.json", "{}");
  return path;
}
