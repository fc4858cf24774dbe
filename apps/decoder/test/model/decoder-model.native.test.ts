import { join } from "node:path";
import { createContext, deviceStatus } from "@pariskv/kernels";
import { describe, expect, test } from "vitest";
import { DecoderModel } from "../../src/model/decoder-model.js";
import { prefill } from "../../src/model/generate.js";
import { openModelFolder } from "../../src/model-files/model-folder.js";
import { temporaryFolder } from "../model-files/temporary-folder.js";
import { forwardOracle } from "./forward-oracle.js";
import { normals, writeRandomModel } from "./random-model.js";

const folder = temporaryFolder();
const base = {
  num_hidden_layers: 2,
  hidden_size: 48,
  intermediate_size: 80,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 64,
  vocab_size: 96,
  max_position_embeddings: 4096,
  rms_norm_eps: 1e-5,
  hidden_act: "silu",
  rope_theta: 10_000,
};
const llama3 = {
  rope_type: "llama3",
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 64,
};
const MODELS = [
  { name: "llama", dtype: "BF16", config: { ...base, architectures: ["LlamaForCausalLM"], tie_word_embeddings: true } },
  {
    name: "llama with biases, llama3 rope and an own output projection",
    dtype: "F32",
    config: { ...base, architectures: ["LlamaForCausalLM"], attention_bias: true, rope_scaling: llama3 },
  },
  { name: "qwen2", dtype: "F16", config: { ...base, architectures: ["Qwen2ForCausalLM"], tie_word_embeddings: true } },
  { name: "qwen3", dtype: "BF16", config: { ...base, architectures: ["Qwen3ForCausalLM"], num_key_value_heads: 1 } },
] as const;

const random = normals(11);
const TOKENS = Array.from({ length: 37 }, () => Math.floor(Math.abs(random()) * 1000) % base.vocab_size);

/** f32 accumulation over widths below 100 and two layers, against float64; measured below 2e-5. */
const TOLERANCE = 2e-4;

function expectClose(actual: Float32Array, expected: readonly number[]): void {
  const error = Math.max(...expected.map((value, index) => Math.abs(value - (actual[index] as number))));
  expect(error).toBeLessThan(TOLERANCE);
}

for (const status of deviceStatus()) {
  describe(`the model on ${status.device}`, () => {
    for (const { name, dtype, config } of MODELS) {
      const path = join(folder, status.device, name);
      const values = writeRandomModel(path, config, dtype, 5);
      const load = async (maxSequences = 2) => {
        const context = createContext({ device: status.device });
        const files = openModelFolder(path);
        const policy = { mode: "dense" } as const;
        const model = await DecoderModel.load(files, {
          context,
          maxTokens: 2048,
          maxSequences,
          kvDtype: "f32",
          policy,
        });
        const end = () => {
          model.dispose();
          context.dispose();
          files.close();
        };
        return { model, files, [Symbol.dispose]: end };
      };

      test(`${name}: prefill and decode equal a float64 forward pass`, async (ctx) => {
        ctx.skip(!status.available, status.available ? "" : `${status.device}: ${status.reason}`);
        using loaded = await load();
        const { model, files } = loaded;
        const expected = forwardOracle(files.config, values, TOKENS);
        const sequence = model.createSequence();
        expectClose(await prefill(model, sequence, TOKENS.slice(0, 20)), expected[19] as number[]);
        const logits = new Float32Array(base.vocab_size);
        for (let position = 20; position < TOKENS.length; position++) {
          model.decode([sequence], Int32Array.of(TOKENS[position] as number));
          model.readLogits(0, logits);
          expectClose(logits, expected[position] as number[]);
          expect(model.readBest(1)[0]).toBe(logits.indexOf(Math.max(...logits)));
        }
      });

      test(`${name}: sequences of different lengths decode in one batch as they do alone`, async (ctx) => {
        ctx.skip(!status.available, status.available ? "" : `${status.device}: ${status.reason}`);
        using loaded = await load(3);
        const { model, files } = loaded;
        const starts = [TOKENS.slice(0, 9), TOKENS.slice(5, 30), TOKENS.slice(20, 21)];
        const sequences = [];
        for (const start of starts) {
          const sequence = model.createSequence();
          await prefill(model, sequence, start);
          sequences.push(sequence);
        }
        model.decode(sequences, Int32Array.of(7, 8, 9));
        const logits = new Float32Array(base.vocab_size);
        for (const [row, start] of starts.entries()) {
          model.readLogits(row, logits);
          expectClose(logits, forwardOracle(files.config, values, [...start, 7 + row]).at(-1) as number[]);
        }
      });
    }

    test("a prompt longer than the context is refused before anything is computed", async (ctx) => {
      ctx.skip(!status.available, status.available ? "" : `${status.device}: ${status.reason}`);
      using context = createContext({ device: status.device });
      using files = openModelFolder(join(folder, status.device, "llama"));
      using model = await DecoderModel.load(files, { context, maxTokens: 64 });
      const sequence = model.createSequence();
      await expect(prefill(model, sequence, new Int32Array(65))).rejects.toThrow(/at most 64 tokens long/);
      expect(sequence.tokens).toBe(0);
      await expect(prefill(model, sequence, [])).rejects.toThrow(/at least 1 token long/);
    });
  });
}
