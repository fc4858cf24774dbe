import type { Dtype } from "@pariskv/kernels";
import { ModelFileError, UnsupportedError } from "@pariskv/quantizer";
import { z } from "zod";
import { boundedNumber, flag, parseFields, text, tokenIds, wholeNumber } from "./config-fields.js";
import { readJsonObject } from "./json-file.js";
import { MAX_CONFIG_BYTES } from "./limits.js";
import { type RopeConfig, readRopeConfig, ropeFields } from "./rope-config.js";
import { quoteName } from "./strict-json.js";

/** The model families that the decoder runs. */
export type ModelFamily = "llama" | "qwen2" | "qwen3";

/** The shape of a model, checked and complete: defaults are filled in, nothing is left to guess. */
export interface ModelConfig {
  readonly family: ModelFamily;
  readonly layers: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  /** Independent of `hiddenSize / queryHeads`; always even. */
  readonly headDim: number;
  readonly vocabSize: number;
  /** In tokens. */
  readonly maxPositions: number;
  readonly rmsNormEps: number;
  readonly rope: RopeConfig;
  /** Whether the embedding is also the output projection. */
  readonly tiedEmbeddings: boolean;
  /** Which attention projections add a bias: none, query, key and value, or those and the output. */
  readonly attentionBias: "none" | "qkv" | "qkvo";
  /** Whether each query and key head is normalised before rope. */
  readonly qkNorm: boolean;
  readonly eosTokenIds: readonly number[];
  readonly bosTokenId: number | undefined;
  /** How the file says that weights are stored, for planning without them; bf16 where it says nothing known. */
  readonly weightDtype: Dtype;
}

const FAMILY_OF_ARCHITECTURE: Readonly<Record<string, ModelFamily>> = {
  LlamaForCausalLM: "llama",
  Qwen2ForCausalLM: "qwen2",
  Qwen3ForCausalLM: "qwen3",
};
const QWEN3_DEFAULT_HEAD_DIM = 128;
const DTYPE_OF_NAME: ReadonlyMap<string, Dtype> = new Map([
  ["float32", "f32"],
  ["bfloat16", "bf16"],
  ["float16", "f16"],
]);

const schema = z.object({
  architectures: z.array(text(128)).max(8).nullish(),
  model_type: text(128).nullish(),
  num_hidden_layers: wholeNumber(1, 1_024),
  hidden_size: wholeNumber(1, 262_144),
  intermediate_size: wholeNumber(1, 1_048_576),
  num_attention_heads: wholeNumber(1, 4_096),
  num_key_value_heads: wholeNumber(1, 4_096).nullish(),
  head_dim: wholeNumber(2, 1_024).nullish(),
  vocab_size: wholeNumber(1, 4_194_304),
  max_position_embeddings: wholeNumber(1, 2 ** 24),
  rms_norm_eps: boundedNumber(1e-12, 1e-1),
  hidden_act: text(64),
  tie_word_embeddings: flag().nullish(),
  attention_bias: flag().nullish(),
  mlp_bias: flag().nullish(),
  use_sliding_window: flag().nullish(),
  sliding_window: wholeNumber(1, 2 ** 24).nullish(),
  max_window_layers: wholeNumber(0, 1_024).nullish(),
  layer_types: z.array(text(64)).max(1_024).nullish(),
  dtype: text(64).nullish(),
  torch_dtype: text(64).nullish(),
  quantization_config: z.unknown().optional(),
  eos_token_id: tokenIds().nullish(),
  bos_token_id: wholeNumber(0, 2 ** 31 - 1).nullish(),
  ...ropeFields,
});

type ConfigFields = z.output<typeof schema>;

/**
 * Reads and checks a `config.json` of at most 1 MiB.
 *
 * @throws ModelFileError when the file is malformed or a value lies outside its range.
 * @throws UnsupportedError when it describes a model that this decoder does not run.
 */
export function readModelConfig(path: string): ModelConfig {
  return parseModelConfig(readJsonObject(path, MAX_CONFIG_BYTES), path);
}

/**
 * Checks the parsed content of a `config.json`; `path` is for messages.
 *
 * @throws ModelFileError when a value lies outside its range or two contradict each other.
 * @throws UnsupportedError when it describes a model that this decoder does not run.
 */
export function parseModelConfig(value: unknown, path: string): ModelConfig {
  requireFamilyName(value, path);
  const fields = parseFields(schema, value, path);
  const family = readFamily(fields.architectures?.[0], fields.model_type ?? undefined, path);
  refuseUnsupported(fields, family, path);
  const queryHeads = fields.num_attention_heads;
  const kvHeads = fields.num_key_value_heads ?? queryHeads;
  const headDim = fields.head_dim ?? (family === "qwen3" ? QWEN3_DEFAULT_HEAD_DIM : fields.hidden_size / queryHeads);
  const require = (holds: boolean, expected: string, received: string) => {
    if (!holds) throw new ModelFileError({ path, expected, received });
  };
  require(queryHeads % kvHeads ===
    0, "a file whose num_attention_heads is a multiple of num_key_value_heads", `${queryHeads} and ${kvHeads}`);
  require(Number.isInteger(headDim) && headDim % 2 === 0, "a file with an even whole head_dim", `${headDim}`);
  const eosTokenIds = [fields.eos_token_id ?? []].flat();
  const bosTokenId = fields.bos_token_id ?? undefined;
  for (const id of bosTokenId === undefined ? eosTokenIds : [...eosTokenIds, bosTokenId]) {
    require(id < fields.vocab_size, `a file whose token ids are below its vocab_size of ${fields.vocab_size}`, `${id}`);
  }
  return {
    family,
    layers: fields.num_hidden_layers,
    hiddenSize: fields.hidden_size,
    intermediateSize: fields.intermediate_size,
    queryHeads,
    kvHeads,
    headDim,
    vocabSize: fields.vocab_size,
    maxPositions: fields.max_position_embeddings,
    rmsNormEps: fields.rms_norm_eps,
    rope: readRopeConfig(fields, path),
    tiedEmbeddings: fields.tie_word_embeddings ?? false,
    attentionBias: biasOf(family, fields.attention_bias ?? false),
    qkNorm: family === "qwen3",
    eosTokenIds,
    bosTokenId,
    weightDtype: DTYPE_OF_NAME.get(fields.dtype ?? fields.torch_dtype ?? "") ?? "bf16",
  };
}

function biasOf(family: ModelFamily, attentionBias: boolean): ModelConfig["attentionBias"] {
  if (family === "qwen2") return "qkv"; // always, whatever the file says
  return attentionBias ? "qkvo" : "none";
}

/** Says what the file lacks before it says what is wrong with fields that another kind of model does not have. */
function requireFamilyName(value: unknown, path: string): void {
  const { architectures, model_type } = parseFields(
    schema.pick({ architectures: true, model_type: true }),
    value,
    path,
  );
  readFamily(architectures?.[0], model_type ?? undefined, path);
}

function readFamily(architecture: string | undefined, modelType: string | undefined, path: string): ModelFamily {
  if (architecture === undefined && modelType === undefined) {
    throw new ModelFileError({ path, expected: "a file with architectures or model_type", received: "neither" });
  }
  const families = Object.values(FAMILY_OF_ARCHITECTURE);
  const byArchitecture =
    architecture !== undefined && Object.hasOwn(FAMILY_OF_ARCHITECTURE, architecture)
      ? FAMILY_OF_ARCHITECTURE[architecture]
      : undefined;
  const family = architecture === undefined ? families.find((known) => known === modelType) : byArchitecture;
  if (family === undefined) {
    throw new UnsupportedError({ feature: `the architecture ${quoteName(architecture ?? modelType ?? "")} (${path})` });
  }
  if (modelType !== undefined && modelType !== family) {
    throw new ModelFileError({
      path,
      expected: `a file whose model_type is "${family}", as its architecture says`,
      received: quoteName(modelType),
    });
  }
  return family;
}

function refuseUnsupported(fields: ConfigFields, family: ModelFamily, path: string): void {
  const refuse = (applies: boolean, feature: string) => {
    if (applies) throw new UnsupportedError({ feature: `${feature} (${path})` });
  };
  refuse(fields.hidden_act !== "silu", `the activation ${quoteName(fields.hidden_act)}`);
  refuse(fields.mlp_bias === true, "biases in the feed-forward layers");
  refuse(fields.quantization_config !== undefined && fields.quantization_config !== null, "quantized weights");
  const windowed = fields.layer_types?.find((type) => type !== "full_attention");
  refuse(windowed !== undefined, `layers of type ${quoteName(windowed ?? "")}`);
  // The Qwen families name a window that only counts when it is switched on, and then only above a layer.
  const switchedOn = family === "llama" ? true : (fields.use_sliding_window ?? false);
  const firstWindowedLayer = family === "llama" ? 0 : (fields.max_window_layers ?? 0);
  const hasWindow = typeof fields.sliding_window === "number" && fields.layer_types === undefined;
  refuse(switchedOn && hasWindow && firstWindowedLayer < fields.num_hidden_layers, "a sliding attention window");
}
