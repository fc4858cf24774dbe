import { z } from "zod";
import { boundedNumber, flag, parseFields, tokenIds, wholeNumber } from "./config-fields.js";
import { readJsonObject } from "./json-file.js";
import { MAX_CONFIG_BYTES } from "./limits.js";

/** What a model's makers recommend for decoding; a command line overrides each value. */
export interface GenerationDefaults {
  /** 0 means greedy, as does `do_sample: false`. */
  readonly temperature: number;
  /** 0 means no limit. */
  readonly topK: number;
  /** 1 means no limit. */
  readonly topP: number;
  /** 0 means no limit. */
  readonly minP: number;
  /** Empty when the file names none: then config.json's hold. */
  readonly eosTokenIds: readonly number[];
  /** Settings of the file that this decoder does not apply, as `name value`: to be said in one line. */
  readonly unappliedSettings: readonly string[];
}

/** Greedy decoding without limits: what holds without a `generation_config.json`. */
export const GREEDY_DEFAULTS: GenerationDefaults = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  eosTokenIds: [],
  unappliedSettings: [],
};

const schema = z.object({
  do_sample: flag().nullish(),
  temperature: boundedNumber(0, 100).nullish(),
  top_k: wholeNumber(0, 4_194_304).nullish(),
  top_p: boundedNumber(0, 1).nullish(),
  min_p: boundedNumber(0, 1).nullish(),
  eos_token_id: tokenIds().nullish(),
});

/** Settings that change the output of transformers, and the values with which they change nothing. */
const NEUTRAL_VALUES: Readonly<Record<string, readonly unknown[]>> = {
  repetition_penalty: [1],
  no_repeat_ngram_size: [0],
  typical_p: [1],
  num_beams: [1],
  penalty_alpha: [0],
  bad_words_ids: [],
  suppress_tokens: [],
  forced_bos_token_id: [],
  forced_eos_token_id: [],
};

/**
 * Reads and checks a `generation_config.json` of at most 1 MiB.
 *
 * @throws ModelFileError when the file is malformed or a value lies outside its range.
 */
export function readGenerationDefaults(path: string): GenerationDefaults {
  return parseGenerationDefaults(readJsonObject(path, MAX_CONFIG_BYTES), path);
}

/**
 * Checks the parsed content of a `generation_config.json`; `path` is for messages.
 *
 * @throws ModelFileError when a value lies outside its range.
 */
export function parseGenerationDefaults(value: unknown, path: string): GenerationDefaults {
  const fields = parseFields(schema, value, path);
  const source = value as Readonly<Record<string, unknown>>;
  const unappliedSettings = Object.entries(NEUTRAL_VALUES)
    .filter(([name, neutral]) => {
      const setting = source[name];
      return setting !== undefined && setting !== null && !neutral.includes(setting);
    })
    .map(([name]) => `${name} ${JSON.stringify(source[name])}`);
  const sampled = fields.do_sample ?? false;
  return {
    // As in transformers: the sampling values of a file that says do_sample: false are not used, and 50 is top_k's default.
    temperature: sampled ? (fields.temperature ?? 1) : 0,
    topK: sampled ? (fields.top_k ?? 50) : 0,
    topP: sampled ? (fields.top_p ?? 1) : 1,
    minP: sampled ? (fields.min_p ?? 0) : 0,
    eosTokenIds: [fields.eos_token_id ?? []].flat(),
    unappliedSettings,
  };
}
