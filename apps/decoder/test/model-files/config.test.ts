import { ModelFileError, UnsupportedError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { parseModelConfig, readModelConfig } from "../../src/model-files/config.js";
import { expectedTensors } from "../../src/model-files/expected-tensors.js";
import { GREEDY_DEFAULTS, parseGenerationDefaults } from "../../src/model-files/generation-config.js";
import { temporaryFolder, write } from "./temporary-folder.js";
import { TINY_CONFIG } from "./tiny-model.js";

const folder = temporaryFolder();
const parse = (changes: object = {}) => parseModelConfig({ ...TINY_CONFIG, ...changes }, "config.json");
const QWEN2 = { architectures: ["Qwen2ForCausalLM"], model_type: "qwen2" };
const QWEN3 = { architectures: ["Qwen3ForCausalLM"], model_type: "qwen3" };

describe("parseModelConfig", () => {
  it("fills in what a Llama config leaves out", () => {
    expect(parse()).toEqual({
      family: "llama",
      layers: 1,
      hiddenSize: 8,
      intermediateSize: 12,
      queryHeads: 2,
      kvHeads: 1,
      headDim: 4,
      vocabSize: 16,
      maxPositions: 64,
      rmsNormEps: 1e-5,
      rope: { theta: 10_000, scaling: { type: "none" } },
      tiedEmbeddings: false,
      attentionBias: "none",
      qkNorm: false,
      eosTokenIds: [1],
      bosTokenId: 0,
      weightDtype: "bf16",
    });
  });

  it("knows the three families by architecture or by model_type", () => {
    expect(parse({ ...QWEN2 })).toMatchObject({ family: "qwen2", attentionBias: "qkv", qkNorm: false });
    expect(parse({ ...QWEN3, head_dim: 4 })).toMatchObject({ family: "qwen3", attentionBias: "none", qkNorm: true });
    expect(parse({ architectures: undefined, model_type: "qwen2" }).family).toBe("qwen2");
    expect(parse({ model_type: undefined }).family).toBe("llama");
  });

  it("gives Qwen3 without head_dim its family's 128", () => {
    expect(parse(QWEN3).headDim).toBe(128);
  });

  it("takes null for a field that may be absent", () => {
    const absent = [
      "num_key_value_heads",
      "head_dim",
      "rope_scaling",
      "eos_token_id",
      "bos_token_id",
      "sliding_window",
    ];
    const config = parse(Object.fromEntries(absent.map((name) => [name, null])));
    expect(config).toMatchObject({ kvHeads: 2, headDim: 4, eosTokenIds: [], bosTokenId: undefined });
  });

  it("takes a head_dim of its own, biases, tied embeddings and several end tokens", () => {
    const changes = { head_dim: 64, attention_bias: true, tie_word_embeddings: true, eos_token_id: [1, 2] };
    expect(parse(changes)).toMatchObject({
      headDim: 64,
      attentionBias: "qkvo",
      tiedEmbeddings: true,
      eosTokenIds: [1, 2],
    });
  });

  const HOSTILE = [-1, 0.5, 1e308, 2 ** 53, "8", true, [], {}];
  const WHOLE = [
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
  ];
  it.each(WHOLE.flatMap((field) => [...HOSTILE, 0].map((value) => [field, value] as const)))(
    "refuses %s of %j",
    (field, value) => {
      expect(() => parse({ [field]: value })).toThrow(ModelFileError);
      expect(() => parse({ [field]: value })).toThrow(`a file whose ${field} is a whole number from`);
    },
  );

  it.each([
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "vocab_size",
    "rms_norm_eps",
    "hidden_act",
  ])("refuses a config without %s", (field) => {
    expect(() => parse({ [field]: undefined })).toThrow(`${field} is`);
    expect(() => parse({ [field]: undefined })).toThrow("but received none.");
  });

  it.each([
    ["rms_norm_eps", 0],
    ["rms_norm_eps", -1e-5],
    ["rms_norm_eps", 1],
    ["rms_norm_eps", "1e-5"],
    ["rope_theta", 0],
    ["rope_theta", -1],
    ["rope_theta", 1e308],
    ["rope_theta", "10000"],
    ["rope_scaling", 4],
    ["rope_scaling", []],
    ["tie_word_embeddings", "yes"],
    ["attention_bias", 1],
    ["eos_token_id", -1],
    ["eos_token_id", 16],
    ["eos_token_id", [1, 16]],
    ["eos_token_id", "1"],
    ["eos_token_id", Array.from({ length: 65 }, () => 1)],
    ["bos_token_id", 2 ** 31],
    ["bos_token_id", 16],
    ["architectures", "LlamaForCausalLM"],
    ["architectures", [7]],
    ["num_key_value_heads", 3],
    ["head_dim", 3],
    ["hidden_size", 9],
    ["model_type", "qwen2"],
  ])("refuses %s of %j as malformed", (field, value) => {
    expect(() => parse({ [field]: value })).toThrow(ModelFileError);
  });

  it.each([
    ["an unknown architecture", { architectures: ["MixtralForCausalLM"], model_type: "mixtral" }, "MixtralForCausalLM"],
    ["an architecture with a name of Object", { architectures: ["constructor"], model_type: undefined }, "constructor"],
    ["another activation", { hidden_act: "gelu" }, '"gelu"'],
    ["feed-forward biases", { mlp_bias: true }, "biases in the feed-forward layers"],
    ["quantized weights", { quantization_config: { bits: 4 } }, "quantized weights"],
    ["a sliding window", { sliding_window: 32 }, "a sliding attention window"],
    [
      "a Qwen window in use",
      { ...QWEN2, use_sliding_window: true, sliding_window: 32, max_window_layers: 0 },
      "sliding",
    ],
    ["layers of another kind", { layer_types: ["sliding_attention"] }, "sliding_attention"],
    ["yarn", { rope_scaling: { rope_type: "yarn", factor: 4 } }, 'rope scaling of type "yarn"'],
    ["linear scaling", { rope_scaling: { type: "linear", factor: 4 } }, 'rope scaling of type "linear"'],
    ["dynamic scaling", { rope_parameters: { rope_type: "dynamic", rope_theta: 1e6 } }, "dynamic"],
    ["rope by layer type", { rope_parameters: { full_attention: { rope_type: "default" } } }, "differ by layer"],
    ["partial rotation", { partial_rotary_factor: 0.5 }, "partial rotary factor of 0.5"],
  ])("refuses %s by name as unsupported", (_, changes, says) => {
    expect(() => parse(changes)).toThrow(UnsupportedError);
    expect(() => parse(changes)).toThrow(says);
  });

  it.each([
    [{ ...QWEN2, use_sliding_window: false, sliding_window: 32_768, max_window_layers: 28 }],
    [{ ...QWEN2, use_sliding_window: true, sliding_window: 32, max_window_layers: 1 }],
    [{ ...QWEN2, use_sliding_window: true, sliding_window: 32, layer_types: ["full_attention"] }],
  ])("accepts a Qwen window that no layer uses: %j", (changes) => {
    expect(parse(changes).family).toBe("qwen2");
  });

  describe("rope", () => {
    const LLAMA3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8_192 };
    const scaling = { type: "llama3", factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8_192 };

    it("reads llama3 scaling from the older form and from the newer one", () => {
      const older = parse({ rope_theta: 500_000, rope_scaling: { rope_type: "llama3", ...LLAMA3 } });
      const newer = parse({ rope_parameters: { rope_type: "llama3", rope_theta: 500_000, ...LLAMA3 } });
      expect(older.rope).toEqual({ theta: 500_000, scaling });
      expect(newer.rope).toEqual(older.rope);
    });

    it("reads no scaling from null, from default and from the newer form with theta alone", () => {
      const none = { theta: 1e6, scaling: { type: "none" } };
      expect(parse({ rope_theta: 1e6, rope_scaling: null }).rope).toEqual(none);
      expect(parse({ rope_theta: 1e6, rope_scaling: { rope_type: "default" } }).rope).toEqual(none);
      expect(parse({ rope_parameters: { rope_type: "default", rope_theta: 1e6 } }).rope).toEqual(none);
    });

    it.each([
      { ...LLAMA3, factor: 0 },
      { ...LLAMA3, factor: "8" },
      { ...LLAMA3, low_freq_factor: 4 },
      { ...LLAMA3, low_freq_factor: 1e308 },
      { ...LLAMA3, original_max_position_embeddings: 0.5 },
      { ...LLAMA3, original_max_position_embeddings: undefined },
      { ...LLAMA3, rope_theta: 3 },
    ])("refuses llama3 scaling with %j", (fields) => {
      expect(() => parse({ rope_theta: 500_000, rope_scaling: { rope_type: "llama3", ...fields } })).toThrow(
        ModelFileError,
      );
    });
  });

  it("reads a file of a mebibyte and refuses a larger one, duplicate keys and what is no object", () => {
    const text = JSON.stringify(TINY_CONFIG);
    expect(readModelConfig(write(folder, "config.json", text.padEnd(1_048_576))).layers).toBe(1);
    expect(() => readModelConfig(write(folder, "config.json", text.padEnd(1_048_577)))).toThrow(
      "at most 1048576 bytes",
    );
    expect(() => readModelConfig(write(folder, "config.json", text.replace("{", '{"hidden_size":1,')))).toThrow(
      "duplicate",
    );
    expect(() => readModelConfig(write(folder, "config.json", "[]"))).toThrow("a JSON object but received an array");
  });
});

describe("expectedTensors", () => {
  const names = (changes: object) => [...expectedTensors(parse(changes))].map(({ name }) => name);

  it("lists a layer's tensors with the shapes of transformers", () => {
    const shapes = new Map([...expectedTensors(parse({ head_dim: 16 }))].map(({ name, shape }) => [name, shape]));
    expect(Object.fromEntries(shapes)).toEqual({
      "model.embed_tokens.weight": [16, 8],
      "model.layers.0.input_layernorm.weight": [8],
      "model.layers.0.self_attn.q_proj.weight": [32, 8],
      "model.layers.0.self_attn.k_proj.weight": [16, 8],
      "model.layers.0.self_attn.v_proj.weight": [16, 8],
      "model.layers.0.self_attn.o_proj.weight": [8, 32],
      "model.layers.0.post_attention_layernorm.weight": [8],
      "model.layers.0.mlp.gate_proj.weight": [12, 8],
      "model.layers.0.mlp.up_proj.weight": [12, 8],
      "model.layers.0.mlp.down_proj.weight": [8, 12],
      "model.norm.weight": [8],
      "lm_head.weight": [16, 8],
    });
  });

  it("has biases, head norms and the output projection only where the family has them", () => {
    const biases = (list: readonly string[]) =>
      list.filter((name) => name.endsWith(".bias")).map((name) => name.split(".")[4]);
    expect(biases(names({}))).toEqual([]);
    expect(biases(names(QWEN2))).toEqual(["q_proj", "k_proj", "v_proj"]);
    expect(biases(names({ attention_bias: true }))).toEqual(["q_proj", "k_proj", "v_proj", "o_proj"]);
    expect(names(QWEN3).filter((name) => name.includes("_norm.weight"))).toHaveLength(2);
    expect(names({ tie_word_embeddings: true })).not.toContain("lm_head.weight");
    expect(names({ num_hidden_layers: 3 })).toHaveLength(3 + 3 * 9);
  });
});

describe("parseGenerationDefaults", () => {
  const parseDefaults = (value: unknown) => parseGenerationDefaults(value, "generation_config.json");

  it("is greedy unless the file says do_sample", () => {
    expect(parseDefaults({})).toEqual(GREEDY_DEFAULTS);
    expect(parseDefaults({ do_sample: false, temperature: 0.7, top_k: 20 })).toEqual(GREEDY_DEFAULTS);
    const sampled = parseDefaults({ do_sample: true, temperature: 0.7, top_p: 0.8, top_k: 20, min_p: 0.05 });
    expect(sampled).toMatchObject({ temperature: 0.7, topP: 0.8, topK: 20, minP: 0.05 });
    expect(parseDefaults({ do_sample: true })).toMatchObject({ temperature: 1, topP: 1, topK: 50, minP: 0 });
  });

  it("keeps end tokens and names the settings that are not applied", () => {
    const defaults = parseDefaults({ eos_token_id: [5, 6], repetition_penalty: 1.05, typical_p: 1 });
    expect(defaults.eosTokenIds).toEqual([5, 6]);
    expect(defaults.unappliedSettings).toEqual(["repetition_penalty 1.05"]);
  });

  it.each([
    { temperature: -1 },
    { temperature: "warm" },
    { top_k: 1.5 },
    { top_k: -1 },
    { top_p: 1.1 },
    { min_p: -0.1 },
    { do_sample: "yes" },
    { eos_token_id: [1.5] },
    [],
    null,
    7,
  ])("refuses %j", (value) => {
    expect(() => parseDefaults(value)).toThrow(ModelFileError);
  });
});
