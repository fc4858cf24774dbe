import { ModelFileError, UnsupportedError } from "@pariskv/quantizer";
import { z } from "zod";
import { parseFields, wholeNumber } from "../model-files/config-fields.js";
import { readJsonObject } from "../model-files/json-file.js";
import { MAX_TOKENIZER_BYTES, MAX_VOCABULARY_ENTRIES } from "../model-files/limits.js";
import { quoteName } from "../model-files/strict-json.js";

/** The content of a checked `tokenizer.json`. */
export type TokenizerFile = Readonly<Record<string, unknown>>;

const MAX_ID = 4_194_303;

const addedTokenSchema = z.object({
  id: wholeNumber(0, MAX_ID),
  content: z
    .string("a text")
    .min(1, "a text of at least one character")
    .max(1_024, "a text of at most 1024 characters"),
});

const outerSchema = z.object({
  model: z.object({ type: z.string("a text").nullish() }, "an object"),
  added_tokens: z.array(addedTokenSchema, "a list").max(MAX_VOCABULARY_ENTRIES, "a shorter list"),
});

/**
 * Reads a `tokenizer.json` of at most 64 MiB and 2^20 entries and checks what the library takes on trust: types, token
 * ids (whole, in range, used once), merges whose parts and results are in the vocabulary, and for byte-level models a
 * symbol for each of the 256 bytes.
 *
 * @throws ModelFileError when the file is malformed.
 * @throws UnsupportedError when its model is not byte-pair encoding.
 */
export function readTokenizerFile(path: string): TokenizerFile {
  const file = readJsonObject(path, MAX_TOKENIZER_BYTES);
  const { model, added_tokens } = parseFields(outerSchema, file, path);
  const type = model.type ?? "BPE";
  if (type !== "BPE") throw new UnsupportedError({ feature: `a tokenizer of type ${quoteName(type)} (${path})` });
  const { vocab, merges } = file.model as { readonly vocab?: unknown; readonly merges?: unknown };
  const ids = requireVocabulary(vocab, path);
  requireMerges(merges, ids, path);
  requireAddedTokens(added_tokens, ids, path);
  if (usesByteSymbols(file.pre_tokenizer)) requireByteSymbols(ids, path);
  return file;
}

function requireVocabulary(vocab: unknown, path: string): ReadonlyMap<string, number> {
  if (typeof vocab !== "object" || vocab === null || Array.isArray(vocab)) {
    throw new ModelFileError({ path, expected: "a file whose model.vocab is an object", received: "none" });
  }
  const ids = new Map<string, number>(Object.entries(vocab));
  if (ids.size === 0 || ids.size > MAX_VOCABULARY_ENTRIES) {
    const expected = `a file whose model.vocab has 1 to ${MAX_VOCABULARY_ENTRIES} entries`;
    throw new ModelFileError({ path, expected, received: `${ids.size}` });
  }
  const seen = new Set<number>();
  for (const [token, id] of ids) {
    if (!Number.isInteger(id) || id < 0 || id > MAX_ID || seen.has(id)) {
      const expected = `a file whose token ids are whole numbers from 0 to ${MAX_ID}, each used once`;
      throw new ModelFileError({ path, expected, received: `${JSON.stringify(id)} for ${quoteName(token)}` });
    }
    seen.add(id);
  }
  return ids;
}

function requireMerges(merges: unknown, ids: ReadonlyMap<string, number>, path: string): void {
  if (!Array.isArray(merges)) {
    throw new ModelFileError({ path, expected: "a file whose model.merges is a list", received: "none" });
  }
  const pairs = Array.isArray(merges[0]);
  for (const [index, merge] of merges.entries()) {
    const parts: unknown = typeof merge === "string" && !pairs ? merge.split(" ") : merge;
    const [left, right] = Array.isArray(parts) && parts.length === 2 ? parts : [];
    const known = typeof left === "string" && typeof right === "string" && ids.has(left) && ids.has(right);
    if (!known || !ids.has(left + right)) {
      throw new ModelFileError({
        path,
        expected: `a file whose model.merges.${index} joins two tokens of the vocabulary into a third`,
        received: quoteName(JSON.stringify(merge) ?? "none"),
      });
    }
  }
}

function requireAddedTokens(
  tokens: readonly z.output<typeof addedTokenSchema>[],
  ids: ReadonlyMap<string, number>,
  path: string,
): void {
  const contentOfId = new Map<number, string>();
  for (const [content, id] of ids) contentOfId.set(id, content);
  const seen = new Set<string>();
  for (const { id, content } of tokens) {
    const taken = contentOfId.get(id) ?? content;
    if (taken !== content || seen.has(content) || (ids.get(content) ?? id) !== id) {
      const expected = "a file whose added tokens have one id each, and no id twice";
      throw new ModelFileError({ path, expected, received: `${id} for ${quoteName(content)}` });
    }
    contentOfId.set(id, content);
    seen.add(content);
  }
}

function usesByteSymbols(preTokenizer: unknown): boolean {
  if (typeof preTokenizer !== "object" || preTokenizer === null) return false;
  const { type, pretokenizers } = preTokenizer as { readonly type?: unknown; readonly pretokenizers?: unknown };
  return type === "ByteLevel" || (Array.isArray(pretokenizers) && pretokenizers.some(usesByteSymbols));
}

/** A byte without a symbol would be dropped from the text without a word. */
function requireByteSymbols(ids: ReadonlyMap<string, number>, path: string): void {
  for (const [byte, symbol] of byteSymbols().entries()) {
    if (ids.has(symbol)) continue;
    throw new ModelFileError({ path, expected: `a vocabulary with a symbol for byte ${byte}`, received: "none" });
  }
}

/** The character that stands for each byte in a byte-level vocabulary: printable ones for themselves, others from U+0100. */
function byteSymbols(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xff && byte !== 0xad);
    return String.fromCharCode(printable ? byte : next++);
  });
}
