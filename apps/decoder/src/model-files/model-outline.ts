import { join } from "node:path";
import { type ModelConfig, readModelConfig } from "./config.js";
import { deviceWeightBytes } from "./device-weight-bytes.js";
import { expectedTensors } from "./expected-tensors.js";
import { requireModelFolder } from "./model-folder.js";
import { hasWeightFiles, ModelWeights } from "./model-weights.js";

/** What can be known of a model without its weights: enough to plan its memory. */
export interface ModelOutline {
  readonly path: string;
  readonly config: ModelConfig;
  /** Bytes of the weights on a device. */
  readonly deviceWeightBytes: number;
  /** Where that figure comes from: the headers of weight files, or config.json alone where there are none. */
  readonly origin: "headers" | "config";
}

/**
 * Reads config.json and the headers of the weight files of a folder, or config.json alone when it holds no weights.
 *
 * @throws ModelFileError when a file is malformed or lacks a tensor; UnsupportedError for a model that is not run here.
 */
export function readModelOutline(path: string): ModelOutline {
  requireModelFolder(path, ["config.json"]);
  const config = readModelConfig(join(path, "config.json"));
  if (!hasWeightFiles(path)) {
    const bytes = deviceWeightBytes(config, () => config.weightDtype);
    return { path, config, deviceWeightBytes: bytes, origin: "config" };
  }
  using weights = ModelWeights.open(path);
  weights.requireTensors(expectedTensors(config));
  const bytes = deviceWeightBytes(config, (name) => weights.dtype(name));
  return { path, config, deviceWeightBytes: bytes, origin: "headers" };
}
