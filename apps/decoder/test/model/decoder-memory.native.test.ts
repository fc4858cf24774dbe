import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Context, createContext, type MemoryKind, type Votes } from "@pariskv/kernels";
import { planMemory } from "@pariskv/memory";
import { UnsupportedError } from "@pariskv/quantizer";
import { describe, expect, test } from "vitest";
import { decoderMemoryRequest, forkCapacityPages } from "../../src/model/decoder-memory.js";
import { DecoderModel } from "../../src/model/decoder-model.js";
import { prefill } from "../../src/model/generate.js";
import { openModelFolder } from "../../src/model-files/model-folder.js";
import { readModelOutline } from "../../src/model-files/model-outline.js";
import { temporaryFolder, write } from "../model-files/temporary-folder.js";
import { writeRandomModel } from "./random-model.js";

const folder = temporaryFolder();
const CONFIG = {
  architectures: ["Qwen3ForCausalLM"],
  num_hidden_layers: 2,
  hidden_size: 48,
  intermediate_size: 80,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 64,
  vocab_size: 96,
  max_position_embeddings: 8192,
  rms_norm_eps: 1e-5,
  hidden_act: "silu",
};
writeRandomModel(folder, CONFIG, "BF16", 3);

/** A context that counts the bytes of each kind of memory that are taken and not given back. */
function countingContext(): { readonly context: Context; readonly bytes: Record<MemoryKind, number> } {
  const context = createContext();
  const bytes = { device: 0, pinned: 0, mapped: 0 };
  const allocate = context.allocate.bind(context);
  context.allocate = (size, kind) => {
    const buffer = allocate(size, kind);
    const dispose = buffer.dispose.bind(buffer);
    bytes[kind] += size;
    buffer.dispose = () => {
      bytes[kind] -= size;
      buffer.dispose = dispose;
      dispose();
    };
    return buffer;
  };
  return { context, bytes };
}

describe("what is planned is what is allocated", () => {
  const cases: [string, { sequences: number; tokens: number; votes: Votes; dtype: "bf16" | "f32" }][] = [
    ["one sequence whose pages are all full", { sequences: 1, tokens: 2048, votes: "graded", dtype: "bf16" }],
    ["tiered votes, f32 records", { sequences: 1, tokens: 1900, votes: "tiered", dtype: "f32" }],
    ["three sequences of a batch", { sequences: 3, tokens: 1500, votes: "graded", dtype: "bf16" }],
    ["a context without pages", { sequences: 2, tokens: 100, votes: "graded", dtype: "bf16" }],
  ];
  test.each(cases)("%s", async (_, { sequences, tokens, votes, dtype }) => {
    using files = openModelFolder(folder);
    const policy = { votes, mode: "vote" } as const;
    const request = decoderMemoryRequest(files, { sequences, kvDtype: dtype, policy });
    const planned = planMemory({ ...request, contextTokens: tokens });

    const { context, bytes } = countingContext();
    const options = { context, maxTokens: tokens, maxSequences: sequences, kvDtype: dtype, policy };
    const model = await DecoderModel.load(files, options);
    for (let index = 0; index < sequences; index++) {
      await prefill(model, model.createSequence(), new Int32Array(tokens).fill(index));
    }
    // A backend takes the workspaces of a plan, and a little scratch of its own, beside `allocate`.
    const planBytes = model.retriever.plan.bytes;
    const device = bytes.device + planBytes;
    expect(Math.abs(planned.bytes.device / device - 1)).toBeLessThan(0.02);
    expect(planned.bytes.mapped).toBe(bytes.mapped);
    expect(planned.bytes.pinned).toBe(bytes.pinned);
    const told = Object.values(model.bytes).reduce((sum, value) => sum + value, 0);
    expect(Math.abs(told / (device + bytes.mapped) - 1)).toBeLessThan(0.02);
    model.dispose();
    expect(bytes).toEqual({ device: 0, pinned: 0, mapped: 0 });
    context.dispose();
  });

  test("forks of one prefix take their windows and the pages that they were given", async () => {
    using files = openModelFolder(folder);
    const [sequences, tokens, forkTokens] = [3, 2400, 600];
    const policy = { mode: "vote" } as const;
    const request = decoderMemoryRequest(files, { sequences, forkTokens, policy });
    const planned = planMemory({ ...request, contextTokens: tokens }).bytes;

    const { context, bytes } = countingContext();
    const capacityPages = forkCapacityPages(tokens, sequences, forkTokens);
    const options = { context, maxTokens: tokens, maxSequences: sequences, policy, capacityPages };
    using model = await DecoderModel.load(files, options);
    const sequence = model.createSequence();
    await prefill(model, sequence, new Int32Array(tokens - forkTokens));
    for (let fork = 1; fork < sequences; fork++) await prefill(model, sequence.fork(), new Int32Array(forkTokens));
    await prefill(model, sequence, new Int32Array(forkTokens));
    expect(model.retriever.memory.pages.usedPages).toBeLessThanOrEqual(capacityPages);
    const taken = bytes.device + bytes.mapped + model.retriever.plan.bytes;
    expect(Math.abs((planned.device + planned.mapped) / taken - 1)).toBeLessThan(0.02);
  });
});

describe("a model that is planned from config.json alone", () => {
  const rope = {
    rope_type: "llama3",
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  };
  const common = { max_position_embeddings: 131_072, rms_norm_eps: 1e-5, hidden_act: "silu", torch_dtype: "bfloat16" };
  const shape = (layers: number, hidden: number, inner: number, heads: number, kvHeads: number, vocab: number) => ({
    ...common,
    num_hidden_layers: layers,
    hidden_size: hidden,
    intermediate_size: inner,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    vocab_size: vocab,
  });
  const MODELS = [
    {
      name: "Llama-3.1-8B",
      config: { architectures: ["LlamaForCausalLM"], ...shape(32, 4096, 14_336, 32, 8, 128_256), rope_scaling: rope },
      kibibytesPerToken: 128,
      parameters: 8_030_261_248,
    },
    {
      name: "Qwen3-8B",
      config: { architectures: ["Qwen3ForCausalLM"], ...shape(36, 4096, 12_288, 32, 8, 151_936), head_dim: 128 },
      kibibytesPerToken: 144,
      parameters: 8_190_735_360,
    },
    {
      name: "Qwen2.5-7B",
      config: { architectures: ["Qwen2ForCausalLM"], ...shape(28, 3584, 18_944, 28, 4, 152_064) },
      kibibytesPerToken: 56,
      parameters: 7_615_616_512,
    },
  ];

  test.each(MODELS)("$name: K and V, summaries and weights", ({ name, config, kibibytesPerToken, parameters }) => {
    const path = join(folder, name);
    mkdirSync(path);
    write(path, "config.json", config);
    const outline = readModelOutline(path);
    expect(outline.origin).toBe("config");
    // Norms and biases are f32 on a device: two bytes more each, under 2 MB in all.
    expect(outline.deviceWeightBytes - 2 * parameters).toBeGreaterThan(0);
    expect(outline.deviceWeightBytes - 2 * parameters).toBeLessThan(2e6);

    const request = decoderMemoryRequest(outline, {});
    const bytesOf = (contextTokens: number) => {
      const { lines } = planMemory({ ...request, contextTokens });
      return (purpose: string) => lines.find((line) => line.purpose === purpose)?.bytes ?? 0;
    };
    // 131,072 tokens have 255 pages behind their window, and slabs of 16 pages hold 255 of 255.
    const records = bytesOf(131_072)("records");
    expect(records).toBe(255 * 512 * kibibytesPerToken * 1024);
    expect(Math.abs(records / (131_072 * kibibytesPerToken * 1024) - 1)).toBeLessThan(0.01);
    expect(bytesOf(1_048_576)("records") / (2 ** 20 * kibibytesPerToken * 1024)).toBeCloseTo(1, 2);
    // The research code spends 112 bytes a key.
    const heads = config.num_hidden_layers * config.num_key_value_heads;
    expect(bytesOf(131_072)("summaries") / (255 * 512 * heads)).toBeLessThanOrEqual(96);
  });
});

describe("a shape of attention that no backend computes", () => {
  test.each([
    ["a head dimension of 96", { head_dim: 96 }],
    ["a head dimension of 32", { head_dim: 32 }],
    ["16 query heads a KV head", { num_attention_heads: 16, num_key_value_heads: 1 }],
  ])("%s is refused before a weight is read", async (sentence, changes) => {
    const path = join(folder, sentence);
    writeRandomModel(path, { ...CONFIG, ...changes }, "BF16", 3);
    using files = openModelFolder(path);
    const { context, bytes } = countingContext();
    let readBytes = 0;
    const onBytes = (count: number) => {
      readBytes = count;
    };
    const loading = DecoderModel.load(files, { context, maxTokens: 64, onBytes });
    await expect(loading).rejects.toThrow(UnsupportedError);
    await expect(loading).rejects.toThrow(sentence);
    expect(() => decoderMemoryRequest(readModelOutline(path), {})).toThrow(sentence);
    expect(readBytes).toBe(0);
    expect(bytes.device).toBe(0);
    context.dispose();
  });
});
