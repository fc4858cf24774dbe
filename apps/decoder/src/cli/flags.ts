import { MAX_STOP_LENGTH, MAX_STOP_STRINGS } from "../text/stop-strings.js";
import {
  type Flag,
  invalid,
  readChoice,
  readNumber,
  readSwitch,
  readText,
  readTokenList,
  readTokens,
  readWholeNumber,
} from "./flag.js";

/** The longest context that can be asked for, in tokens. */
const MAX_CONTEXT_TOKENS = 2 ** 24;

const flag = <Value>(description: Flag<Value>): Flag<Value> => description;

/** The flag that every command has. */
export const outputFlags = {
  json: flag({ syntax: "--json", about: "print one JSON object instead of text", fallback: false, read: readSwitch }),
};

/** Where the work is done. */
export const deviceFlags = {
  device: flag({
    syntax: "--device <device>",
    about: "auto, cuda, cuda:<index>, cpu or reference (plain TypeScript)",
    fallback: "auto",
    read(text, name) {
      if (/^(auto|cpu|reference|cuda(:\d{1,2})?)$/.test(text)) return text;
      throw invalid(name, "auto, cuda, cuda:<index>, cpu or reference", text);
    },
  }),
};

/** How much context is kept, and how. */
export const contextFlags = {
  ctxSize: flag({
    syntax: "-c, --ctx-size <tokens>",
    about: "longest context in tokens, such as 32768 or 32k; 0 = the model's maximum",
    fallback: 0,
    read: readTokens(0, MAX_CONTEXT_TOKENS),
  }),
  kvDtype: flag<"auto" | "bf16" | "f16" | "f32">({
    syntax: "--kv-dtype <type>",
    about: "how keys and values are stored: auto, bf16, f16 or f32",
    fallback: "auto",
    read: readChoice("auto", "bf16", "f16", "f32"),
  }),
};

/** How retrieval chooses the tokens that are read. */
export const retrievalFlags = {
  retrievalK: flag({
    syntax: "--retrieval-k <tokens>",
    about: "tokens read from the retrieval zone, a KV head and step",
    fallback: 100,
    read: readWholeNumber(1, 65_536),
  }),
  votes: flag<"graded" | "tiered">({
    syntax: "--votes <rule>",
    about: "vote tables: graded or tiered",
    fallback: "graded",
    read: readChoice("graded", "tiered"),
  }),
  group: flag<"mean" | "max" | "sum">({
    syntax: "--group <policy>",
    about: "how the query heads of a KV head agree: mean, max or sum",
    fallback: "sum",
    read: readChoice("mean", "max", "sum"),
  }),
};

/** Whether retrieval is used. */
export const attentionFlags = {
  attention: flag<"auto" | "pariskv" | "dense">({
    syntax: "--attention <kind>",
    about: "auto, pariskv or dense",
    fallback: "auto",
    read: readChoice("auto", "pariskv", "dense"),
  }),
};

/** The prompt: one of the two. */
export const promptFlags = {
  prompt: flag<string | undefined>({
    syntax: "-p, --prompt <text>",
    about: "the prompt",
    fallback: undefined,
    read: readText,
  }),
  file: flag<string | undefined>({
    syntax: "-f, --file <path>",
    about: "read the prompt from a file; - reads it from stdin",
    fallback: undefined,
    read: readText,
  }),
};

/** How long the answer may be. */
export const lengthFlags = {
  maxTokens: flag<number | undefined>({
    syntax: "-n, --max-tokens <tokens>",
    about: "longest answer in tokens",
    fallback: undefined,
    fallbackText: "what the context leaves",
    read: readTokens(1, MAX_CONTEXT_TOKENS),
  }),
};

const fromModel = { fallback: undefined, fallbackText: "the model's" };

/** How the next token is chosen; what is not given comes from the model's generation_config.json. */
export const samplingFlags = {
  temperature: flag<number | undefined>({
    syntax: "--temperature <number>",
    about: "0 = always the most likely token",
    ...fromModel,
    read: readNumber(0, 100),
  }),
  topK: flag<number | undefined>({
    syntax: "--top-k <tokens>",
    about: "sample among that many tokens; 0 = all",
    ...fromModel,
    read: readWholeNumber(0, 4_194_304),
  }),
  topP: flag<number | undefined>({
    syntax: "--top-p <share>",
    about: "sample among the tokens that reach this probability together; 1 = all",
    ...fromModel,
    read: readNumber(0, 1),
  }),
  minP: flag<number | undefined>({
    syntax: "--min-p <share>",
    about: "sample among tokens at least this likely compared with the first; 0 = all",
    ...fromModel,
    read: readNumber(0, 1),
  }),
  seed: flag<number | undefined>({
    syntax: "--seed <number>",
    about: "the same seed gives the same answer",
    fallback: undefined,
    fallbackText: "a new one each time",
    read: readWholeNumber(0, 2 ** 32 - 1),
  }),
  stop: flag<readonly string[]>({
    syntax: "--stop <text>",
    about: "end the answer before this text; may be given several times",
    fallback: [],
    repeatable: true,
    read(text, name) {
      const strings = text.split("\0");
      if (strings.length > MAX_STOP_STRINGS)
        throw invalid(name, `given at most ${MAX_STOP_STRINGS} times`, `${strings.length}`);
      for (const string of strings) {
        if (string.length < 1 || string.length > MAX_STOP_LENGTH) {
          throw invalid(name, `a text of 1 to ${MAX_STOP_LENGTH} characters`, string);
        }
      }
      return strings;
    },
  }),
};

/** The instructions in front of a conversation. */
export const chatFlags = {
  system: flag<string | undefined>({
    syntax: "--system <text>",
    about: "instructions in front of the conversation",
    fallback: undefined,
    read: readText,
  }),
};

/** The questions that `plan` answers beyond the context's length. */
export const planFlags = {
  parallel: flag({
    syntax: "--parallel <sequences>",
    about: "sequences of that length at once",
    fallback: 1,
    read: readWholeNumber(1, 4_096),
  }),
};

/** The seed of the demo's haystack. */
export const demoFlags = {
  ctxSize: flag<number | undefined>({
    syntax: "-c, --ctx-size <tokens>",
    about: "length of the haystack in tokens",
    fallback: undefined,
    fallbackText: "16k, or 8k without SIMD",
    read: readTokens(1_024, MAX_CONTEXT_TOKENS),
  }),
  seed: flag({
    syntax: "--seed <number>",
    about: "which needles are hidden, and where",
    fallback: 0,
    read: readWholeNumber(0, 2 ** 32 - 1),
  }),
};

/** The contexts that `bench` measures. */
export const benchFlags = {
  lengths: flag<readonly number[]>({
    syntax: "--lengths <tokens,…>",
    about: "contexts to measure, with commas between them",
    fallback: [4_096, 32_768, 131_072],
    fallbackText: "4k,32k,128k",
    read: readTokenList(1_024, MAX_CONTEXT_TOKENS),
  }),
};
