import { join } from "node:path";
import { type Context, createContext, type DeviceBuffer } from "@pariskv/kernels";
import { UnsupportedError } from "@pariskv/quantizer";
import { afterAll, describe, expect, test } from "vitest";
import { loadWeights } from "../../src/model/load-weights.js";
import { openModelFolder } from "../../src/model-files/model-folder.js";
import { entry, safetensorsBytes } from "../model-files/safetensors-bytes.js";
import { temporaryFolder, write } from "../model-files/temporary-folder.js";
import { TINY_CONFIG } from "../model-files/tiny-model.js";
import { writeRandomModel } from "./random-model.js";

const folder = temporaryFolder();
const context: Context = createContext();
afterAll(() => context.dispose());

/** Remembers what is allocated; `alive` counts the buffers that still answer. */
function watchedContext() {
  const taken: DeviceBuffer[] = [];
  const watched = Object.create(context) as Context;
  watched.allocate = (bytes, kind) => {
    const buffer = context.allocate(bytes, kind);
    taken.push(buffer);
    return buffer;
  };
  const isAlive = (buffer: DeviceBuffer) => {
    try {
      buffer.read(0, new Uint8Array(1));
      return true;
    } catch {
      return false;
    }
  };
  return { watched, taken, alive: () => taken.filter(isAlive).length };
}

describe("loadWeights", () => {
  test("joins projections, widens norms to f32 and counts every byte of the files", async () => {
    const path = join(folder, "joined");
    const values = writeRandomModel(path, TINY_CONFIG, "BF16", 1);
    using files = openModelFolder(path);
    const counts: number[] = [];
    const onBytes = (bytes: number) => void counts.push(bytes);
    const weights = await loadWeights(context, files.config, files.weights, { onBytes });
    expect(counts.at(-1)).toBe(files.weightBytes);
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    expect(weights.bytes).toBe(files.deviceWeightBytes);
    const norm = new Float32Array(TINY_CONFIG.hidden_size);
    weights.finalNorm.buffer.read(0, norm);
    expect(norm).toEqual(values.get("model.norm.weight"));
    const kRows = new Uint16Array(4 * TINY_CONFIG.hidden_size);
    weights.layers[0]?.qkv.buffer.read(2 * 8 * TINY_CONFIG.hidden_size, kRows); // behind 2 query heads of 4 rows
    const stored = new Uint16Array(kRows.length);
    files.weights.readTensorInto("model.layers.0.self_attn.k_proj.weight", new Uint8Array(stored.buffer));
    expect(kRows).toEqual(stored);
    weights.dispose();
  });

  test("an interrupt stops it between two chunks, and nothing is leaked", async () => {
    const path = join(folder, "interrupted");
    writeRandomModel(path, { ...TINY_CONFIG, num_hidden_layers: 4 }, "F32", 1);
    using files = openModelFolder(path);
    const { watched, taken, alive } = watchedContext();
    const controller = new AbortController();
    const onBytes = (bytes: number) => {
      if (bytes > files.weightBytes / 2) controller.abort();
    };
    const loading = loadWeights(watched, files.config, files.weights, { onBytes, signal: controller.signal });
    await expect(loading).rejects.toThrow(/aborted/);
    expect(taken.length).toBeGreaterThan(10);
    expect(alive()).toBe(0);
  });

  test("projections of one layer in different types are refused by name, and nothing is leaked", async () => {
    const path = join(folder, "mixed");
    const values = writeRandomModel(path, TINY_CONFIG, "F32", 1);
    const header: Record<string, unknown> = {};
    const parts: Uint8Array[] = [];
    let offset = 0;
    using original = openModelFolder(path);
    for (const name of values.keys()) {
      const { shape } = original.weights.tensor(name) as { readonly shape: readonly number[] };
      const dtype = name.endsWith("k_proj.weight") ? "F16" : "F32";
      const bytes = new Uint8Array(shape.reduce((a, b) => a * b, 1) * (dtype === "F16" ? 2 : 4));
      header[name] = entry(dtype, shape, offset, offset + bytes.length);
      offset += bytes.length;
      parts.push(bytes);
    }
    write(path, "model.safetensors", safetensorsBytes({ header, data: Buffer.concat(parts) }));
    using files = openModelFolder(path);
    const { watched, taken, alive } = watchedContext();
    const loading = loadWeights(watched, files.config, files.weights);
    await expect(loading).rejects.toThrow(UnsupportedError);
    await expect(loading).rejects.toThrow(/k_proj\.weight, .* stored in different types/);
    expect(taken.length).toBeGreaterThan(0);
    expect(alive()).toBe(0);
  });
});
