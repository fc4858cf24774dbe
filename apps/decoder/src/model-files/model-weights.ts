import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Dtype } from "@pariskv/kernels";
import { InvalidArgumentError, ModelFileError, UnsupportedError } from "@pariskv/quantizer";
import type { ExpectedTensor } from "./expected-tensors.js";
import { MAX_TENSORS } from "./limits.js";
import type { BytesListener } from "./positioned-file.js";
import { SafetensorsFile } from "./safetensors.js";
import type { ElementType, TensorEntry } from "./safetensors-header.js";
import { readShardIndex } from "./shard-index.js";
import { quoteName } from "./strict-json.js";

const SINGLE_FILE = "model.safetensors";
const INDEX_FILE = "model.safetensors.index.json";
const DTYPE_OF_ELEMENT: Readonly<Partial<Record<ElementType, Dtype>>> = { F32: "f32", BF16: "bf16", F16: "f16" };

/** Whether a folder holds weights, in one file or in shards. */
export function hasWeightFiles(folder: string): boolean {
  return [SINGLE_FILE, INDEX_FILE].some((name) => existsSync(join(folder, name)));
}

/**
 * The weights of a model folder, in one safetensors file or in shards, as one map of tensors.
 *
 * Holds one file descriptor a shard: call `close()` or use `using`.
 */
export class ModelWeights {
  readonly #files: readonly SafetensorsFile[];
  readonly #fileOfTensor: ReadonlyMap<string, SafetensorsFile>;
  readonly #folder: string;

  private constructor(
    folder: string,
    files: readonly SafetensorsFile[],
    fileOfTensor: ReadonlyMap<string, SafetensorsFile>,
  ) {
    this.#folder = folder;
    this.#files = files;
    this.#fileOfTensor = fileOfTensor;
  }

  /**
   * Opens `model.safetensors`, or else the shards that `model.safetensors.index.json` names, and checks all headers.
   *
   * @throws ModelFileError when a file is missing or malformed, or a shard lacks a tensor that the index puts there.
   */
  static open(folder: string): ModelWeights {
    const singlePath = join(folder, SINGLE_FILE);
    if (existsSync(singlePath)) {
      const file = SafetensorsFile.open(singlePath);
      return new ModelWeights(folder, [file], new Map([...file.tensors.keys()].map((name) => [name, file])));
    }
    const indexPath = join(folder, INDEX_FILE);
    if (!existsSync(indexPath)) {
      throw new ModelFileError({
        path: folder,
        expected: `a model folder with ${SINGLE_FILE} or ${INDEX_FILE}`,
        received: "a folder without weights",
      });
    }
    return ModelWeights.#openShards(folder, indexPath);
  }

  static #openShards(folder: string, indexPath: string): ModelWeights {
    const { shardOfTensor, shardNames } = readShardIndex(indexPath);
    const files = new Map<string, SafetensorsFile>();
    try {
      let tensors = 0;
      for (const shardName of shardNames) {
        const file = SafetensorsFile.open(join(folder, shardName));
        files.set(shardName, file);
        tensors += file.tensors.size;
        if (tensors > MAX_TENSORS) {
          throw new ModelFileError({
            path: indexPath,
            expected: `shards of at most ${MAX_TENSORS} tensors`,
            received: "more",
          });
        }
      }
      const fileOfTensor = new Map<string, SafetensorsFile>();
      for (const [tensor, shardName] of shardOfTensor) {
        const file = files.get(shardName);
        if (!file?.tensors.has(tensor)) {
          throw new ModelFileError({
            path: join(folder, shardName),
            expected: `a shard with the tensor ${quoteName(tensor)}, as the index says`,
            received: "one without it",
          });
        }
        fileOfTensor.set(tensor, file);
      }
      return new ModelWeights(folder, [...files.values()], fileOfTensor);
    } catch (error) {
      for (const file of files.values()) file.close();
      throw error;
    }
  }

  /** The names of all tensors. */
  get names(): Iterable<string> {
    return this.#fileOfTensor.keys();
  }

  /** What is known of one tensor, or nothing when the weights lack it. */
  tensor(name: string): TensorEntry | undefined {
    return this.#fileOfTensor.get(name)?.tensors.get(name);
  }

  /**
   * How the elements of a tensor are stored.
   *
   * @throws InvalidArgumentError when there is no such tensor; UnsupportedError when its type is not f32, bf16 or f16.
   */
  dtype(name: string): Dtype {
    const file = this.#file(name);
    const elementType = (file.tensors.get(name) as TensorEntry).elementType;
    const dtype = DTYPE_OF_ELEMENT[elementType];
    if (dtype === undefined) {
      throw new UnsupportedError({ feature: `weights of type ${elementType} (${name} in ${file.path})` });
    }
    return dtype;
  }

  /**
   * Checks that the weights hold every expected tensor in its shape and a float type; further tensors are allowed.
   *
   * @returns the bytes of the expected tensors together.
   * @throws ModelFileError when a tensor is missing or has another shape.
   * @throws UnsupportedError when a tensor is stored in a type other than f32, bf16 or f16.
   */
  requireTensors(expected: Iterable<ExpectedTensor>): number {
    let totalBytes = 0;
    for (const { name, shape } of expected) {
      const entry = this.tensor(name);
      const path = this.#fileOfTensor.get(name)?.path ?? this.#folder;
      if (entry === undefined || entry.shape.join() !== shape.join()) {
        throw new ModelFileError({
          path,
          ...(entry && { offsetBytes: entry.offsetBytes }),
          expected: `weights with ${name} of shape [${shape.join(", ")}], as config.json says`,
          received: entry === undefined ? "weights without it" : `the shape [${entry.shape.join(", ")}]`,
        });
      }
      this.dtype(name);
      totalBytes += entry.sizeBytes;
    }
    return totalBytes;
  }

  /**
   * Reads one tensor's bytes, little-endian and row-major, into `target`.
   *
   * @param target `[sizeBytes] u8`, exactly as long as the tensor.
   * @throws InvalidArgumentError when there is no such tensor or `target` has another length.
   * @throws ModelFileError when the file has changed since it was opened.
   * @throws DisposedError after `close()`.
   */
  readTensorInto(name: string, target: Uint8Array, onBytes?: BytesListener): void {
    this.#file(name).readTensorInto(name, target, onBytes);
  }

  /**
   * Reads the bytes of one tensor from `offsetBytes` on into `target`, as many as it holds.
   *
   * @throws InvalidArgumentError when there is no such tensor or it ends before `target` is full.
   * @throws ModelFileError when the file has changed since it was opened.
   * @throws DisposedError after `close()`.
   */
  readTensorPart(name: string, offsetBytes: number, target: Uint8Array): void {
    this.#file(name).readTensorPart(name, offsetBytes, target);
  }

  /** Closes every file; a second call does nothing. */
  close(): void {
    for (const file of this.#files) file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #file(name: string): SafetensorsFile {
    const file = this.#fileOfTensor.get(name);
    if (file) return file;
    throw new InvalidArgumentError({ argument: "name", expected: `a tensor of ${this.#folder}`, received: name });
  }
}
