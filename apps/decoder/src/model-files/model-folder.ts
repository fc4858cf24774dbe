import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { ModelFileError } from "@pariskv/quantizer";
import { bundledModelPath } from "./bundled-model.js";
import { type ModelConfig, readModelConfig } from "./config.js";
import { deviceWeightBytes } from "./device-weight-bytes.js";
import { expectedTensors } from "./expected-tensors.js";
import { type GenerationDefaults, GREEDY_DEFAULTS, readGenerationDefaults } from "./generation-config.js";
import { type CacheEnvironment, findInHubCache, isRepositoryId } from "./hub-cache.js";
import { ModelWeights } from "./model-weights.js";

/** A model folder in Hugging Face form, checked; no weight has been read. Call `close()` or use `using`. */
export interface ModelFolder extends Disposable {
  readonly path: string;
  readonly config: ModelConfig;
  readonly generationDefaults: GenerationDefaults;
  /** The tokens that end an answer: generation_config.json's, or else config.json's. */
  readonly eosTokenIds: readonly number[];
  readonly weights: ModelWeights;
  /** Bytes of all tensors that the model needs, as stored. */
  readonly weightBytes: number;
  /** Bytes of the same tensors on a device. */
  readonly deviceWeightBytes: number;
  /** Closes the weight files; a second call does nothing. */
  close(): void;
}

/**
 * Finds the folder that `model` names: a folder, a repository id in the Hugging Face cache, or the bundled model when
 * nothing is named.
 *
 * @throws ModelFileError when there is none.
 */
export function resolveModelPath(model: string | undefined, environment: CacheEnvironment): string {
  if (model === undefined) return bundledModelPath();
  if (existsSync(model) || !isRepositoryId(model)) return model;
  return findInHubCache(model, environment);
}

/**
 * Opens a model folder: config.json, generation_config.json if there, and every weight file's header, which must hold
 * all tensors of the model in their shapes. Nothing large is allocated.
 *
 * @throws ModelFileError when the folder is no model folder or a file in it is malformed.
 * @throws UnsupportedError when the model is one that this decoder does not run.
 */
export function openModelFolder(path: string): ModelFolder {
  requireModelFolder(path, ["config.json", "tokenizer.json"]);
  const config = readModelConfig(join(path, "config.json"));
  const generationPath = join(path, "generation_config.json");
  const generationDefaults = existsSync(generationPath) ? readGenerationDefaults(generationPath) : GREEDY_DEFAULTS;
  const weights = ModelWeights.open(path);
  try {
    const weightBytes = weights.requireTensors(expectedTensors(config));
    const close = () => weights.close();
    const eosTokenIds = generationDefaults.eosTokenIds.length > 0 ? generationDefaults.eosTokenIds : config.eosTokenIds;
    return {
      path,
      config,
      generationDefaults,
      eosTokenIds,
      weights,
      weightBytes,
      deviceWeightBytes: deviceWeightBytes(config, (name) => weights.dtype(name)),
      close,
      [Symbol.dispose]: close,
    };
  } catch (error) {
    weights.close();
    throw error;
  }
}

/**
 * Checks that `path` is a folder with the files that are named.
 *
 * @throws ModelFileError when it is not.
 */
export function requireModelFolder(path: string, files: readonly string[]): void {
  const expected = "a model folder (config.json, model.safetensors, tokenizer.json)";
  if (!existsSync(path)) throw new ModelFileError({ path, expected, received: "nothing by that name" });
  if (!statSync(path).isDirectory())
    throw new ModelFileError({ path, expected, received: "something that is no folder" });
  const missing = files.find((file) => !existsSync(join(path, file)));
  if (missing) throw new ModelFileError({ path, expected, received: `a folder without ${missing}` });
}
