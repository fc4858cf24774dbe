import { ModelFileError } from "@pariskv/quantizer";
import { readJsonObject } from "./json-file.js";
import { MAX_SHARD_INDEX_BYTES, MAX_SHARDS, MAX_TENSORS } from "./limits.js";
import { quoteName } from "./strict-json.js";

/** Which shard holds which tensor. */
export interface ShardIndex {
  /** Tensor name to shard file name. */
  readonly shardOfTensor: ReadonlyMap<string, string>;
  /** The file names, each once, in the order of their first mention. */
  readonly shardNames: readonly string[];
}

/**
 * Reads a `model.safetensors.index.json`.
 *
 * Shards are named by plain file names beside the index: nothing in it can lead out of the folder.
 *
 * @throws ModelFileError when the index is malformed.
 */
export function readShardIndex(path: string): ShardIndex {
  const weightMap = readJsonObject(path, MAX_SHARD_INDEX_BYTES).weight_map;
  if (typeof weightMap !== "object" || weightMap === null || Array.isArray(weightMap)) {
    throw new ModelFileError({ path, expected: "a shard index with an object weight_map", received: "none" });
  }
  const shardOfTensor = new Map<string, string>();
  const shardNames = new Set<string>();
  for (const [tensor, shard] of Object.entries(weightMap)) {
    if (typeof shard !== "string" || !isPlainFileName(shard)) {
      throw new ModelFileError({
        path,
        expected: `a shard index that names a .safetensors file beside it for ${quoteName(tensor)}`,
        received: typeof shard === "string" ? quoteName(shard) : String(shard),
      });
    }
    shardOfTensor.set(tensor, shard);
    shardNames.add(shard);
  }
  requireCount(path, "tensors", shardOfTensor.size, MAX_TENSORS);
  requireCount(path, "shards", shardNames.size, MAX_SHARDS);
  return { shardOfTensor, shardNames: [...shardNames] };
}

function requireCount(path: string, noun: string, count: number, maximum: number): void {
  if (count >= 1 && count <= maximum) return;
  throw new ModelFileError({ path, expected: `a shard index of 1 to ${maximum} ${noun}`, received: `${count}` });
}

function isPlainFileName(name: string): boolean {
  return name.length <= 255 && /^[^/\\:\p{Cc}\p{Cs}]+\.safetensors$/u.test(name) && !name.startsWith(".");
}
