import { existsSync } from "node:fs";
import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import { ModelFileError, UnsupportedError } from "@pariskv/quantizer";
import { readJsonObject, readTextFile } from "../model-files/json-file.js";
import { MAX_CHAT_TEMPLATE_BYTES, MAX_CONFIG_BYTES } from "../model-files/limits.js";
import { withTimeLimit } from "./time-limit.js";

/** One message of a conversation. */
export interface ChatMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** Turns a conversation into the text that the model was trained to continue. */
export interface ChatTemplate {
  /** `model` when the folder brings a template, `plain` when the form below stands in. */
  readonly origin: "model" | "plain";
  /** Whether the text holds its special tokens already, so that encoding must not add them. */
  readonly writesSpecialTokens: boolean;
  /**
   * The prompt up to the point where the answer begins.
   *
   * @throws ModelFileError when the template itself fails or refuses the conversation.
   * @throws UnsupportedError when it takes longer than a second.
   */
  render(messages: readonly ChatMessage[]): string;
}

/** Real templates take milliseconds; one that loops takes some 600 MB a second. */
const RENDER_LIMIT_MS = 1_000;
const MAX_RENDERED_CHARACTERS = 64 * 1024 * 1024;
const SPECIAL_TOKENS = ["bos_token", "eos_token", "unk_token", "pad_token"];

/**
 * Reads the chat template of a model folder: `chat_template.jinja`, or `chat_template` of `tokenizer_config.json`.
 *
 * A model without one was not trained on conversations; the plain form stands in, which says each turn as
 * "Question: … Answer: …" and suits models that continue text.
 *
 * @throws ModelFileError when a file is malformed or the template larger than 256 KiB.
 */
export function readChatTemplate(folder: string): ChatTemplate {
  const configPath = join(folder, "tokenizer_config.json");
  const config = existsSync(configPath) ? readJsonObject(configPath, MAX_CONFIG_BYTES) : {};
  const templatePath = join(folder, "chat_template.jinja");
  if (existsSync(templatePath)) {
    return jinjaTemplate(readTextFile(templatePath, MAX_CHAT_TEMPLATE_BYTES), config, templatePath);
  }
  const source = templateOf(config.chat_template, configPath);
  return source === undefined ? PLAIN : jinjaTemplate(source, config, configPath);
}

const PLAIN: ChatTemplate = {
  origin: "plain",
  writesSpecialTokens: false,
  render(messages) {
    const parts = messages.map(({ role, content }) => (role === "user" ? `Question: ${content} Answer:` : content));
    return parts.join(" ");
  },
};

/** A text, or a list of named texts of which `default` is the one for conversations. */
function templateOf(value: unknown, path: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  const named = (entry: unknown) => (entry as { readonly name?: unknown } | null)?.name === "default";
  const source = Array.isArray(value) ? (value.find(named) as { readonly template?: unknown })?.template : value;
  if (typeof source !== "string" || Buffer.byteLength(source) > MAX_CHAT_TEMPLATE_BYTES) {
    throw new ModelFileError({
      path,
      expected: `a file whose chat_template is a text of at most ${MAX_CHAT_TEMPLATE_BYTES} bytes`,
      received: typeof source === "string" ? "a longer one" : "something else",
    });
  }
  return source;
}

function jinjaTemplate(source: string, config: Readonly<Record<string, unknown>>, path: string): ChatTemplate {
  const guarded = <Result>(work: () => Result): Result => {
    try {
      return withTimeLimit(RENDER_LIMIT_MS, work, (cause) => {
        return new UnsupportedError({ feature: `a chat template that takes longer than 1 s (${path})`, cause });
      });
    } catch (error) {
      if (UnsupportedError.isInstance(error)) throw error;
      const received = `a failure (${error instanceof Error ? error.message : "unknown"})`;
      throw new ModelFileError({ path, expected: "a chat template that renders", received, cause: error });
    }
  };
  const template = guarded(() => new Template(source));
  const specialTokens = Object.fromEntries(SPECIAL_TOKENS.map((name) => [name, tokenText(config[name])]));
  return {
    origin: "model",
    writesSpecialTokens: true,
    render(messages) {
      const text = guarded(() => template.render({ ...specialTokens, messages, add_generation_prompt: true }));
      if (text.length > MAX_RENDERED_CHARACTERS) {
        throw new UnsupportedError({ feature: `a chat template that writes more than 64 Mi characters (${path})` });
      }
      return text;
    },
  };
}

/** A special token stands as a text or as an object with its content. */
function tokenText(value: unknown): string {
  const content =
    typeof value === "object" && value !== null ? (value as { readonly content?: unknown }).content : value;
  return typeof content === "string" ? content : "";
}
