import { existsSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import { InvalidArgumentError, ModelFileError, ParisKVError, UnsupportedError } from "@pariskv/quantizer";
import { readJsonObject } from "../model-files/json-file.js";
import { MAX_CONFIG_BYTES } from "../model-files/limits.js";
import { PieceCache } from "./piece-cache.js";
import { TextStream } from "./text-stream.js";
import { withTimeLimit } from "./time-limit.js";
import { readTokenizerFile } from "./tokenizer-file.js";

/** A pattern of the file may loop for ever on a short text; an honest one takes about 1 µs a character. */
const ENCODE_LIMIT_MS = 2_000;
const ENCODE_LIMIT_MS_PER_CHARACTER = 0.02;

/** The part of the library's class that is used here. */
interface LibraryTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: (number | undefined)[] };
  decode(ids: number[], options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  readonly model: { cache: Pick<PieceCache, "get" | "put"> };
}

const REMEMBERED_PIECES = 65_536;

/** Most tokens by which the beginning of a text may exceed the whole text, because the cut splits a word. */
const CUT_TOKENS = 1_024;

/** How a text becomes tokens. */
export interface EncodeOptions {
  /** Whether the tokens are put around the text that the model expects there. Default true. */
  readonly addSpecialTokens?: boolean;
}

/** Turns text into token ids and back, as the model's own tokenizer does. */
export class TextTokenizer {
  readonly #library: LibraryTokenizer;
  readonly #path: string;

  private constructor(library: LibraryTokenizer, path: string) {
    this.#library = library;
    this.#path = path;
  }

  /**
   * Opens `tokenizer.json` of a model folder, and `tokenizer_config.json` if it is there.
   *
   * @throws ModelFileError when a file is missing or malformed.
   * @throws UnsupportedError when the tokenizer is of a kind that is not read.
   */
  static open(folder: string): TextTokenizer {
    const path = join(folder, "tokenizer.json");
    const file = readTokenizerFile(path);
    const configPath = join(folder, "tokenizer_config.json");
    const config = existsSync(configPath) ? readJsonObject(configPath, MAX_CONFIG_BYTES) : {};
    const create = () => {
      const library = new Tokenizer(file, config) as LibraryTokenizer;
      library.model.cache = new PieceCache(REMEMBERED_PIECES);
      return library;
    };
    return new TextTokenizer(
      guarded(path, () => withTimeLimit(30_000, create, tooSlow(path))),
      path,
    );
  }

  /**
   * The token ids of `text`: `[tokens] u32`.
   *
   * Special tokens written out in the text become special tokens, as in transformers. `addSpecialTokens` puts the ones
   * around it that the model expects (most often a first token); leave it off for the output of a chat template.
   *
   * @throws UnsupportedError when a pattern of the tokenizer takes more than 2 s and 20 µs a character; ModelFileError when
   * the tokenizer fails.
   */
  encode(text: string, options: EncodeOptions = {}): Uint32Array {
    const limitMs = Math.ceil(ENCODE_LIMIT_MS + text.length * ENCODE_LIMIT_MS_PER_CHARACTER);
    const work = () => this.#library.encode(text, { add_special_tokens: options.addSpecialTokens ?? true });
    const { ids } = guarded(this.#path, () => withTimeLimit(limitMs, work, tooSlow(this.#path)));
    return Uint32Array.from(ids, (id) => {
      if (id === undefined) {
        throw new ModelFileError({
          path: this.#path,
          expected: "a complete vocabulary",
          received: "a token without id",
        });
      }
      return id;
    });
  }

  /**
   * The token ids of `text`, or nothing when it has clearly more than `maxTokens`.
   *
   * A long text is looked at from its beginning in growing pieces, so that one that is far too long costs the time and
   * memory of what would fit, not its own. A text that is a little too long is encoded all the same: compare the length.
   *
   * @throws UnsupportedError as {@link TextTokenizer.encode}.
   */
  encodeAtMost(text: string, maxTokens: number, options: EncodeOptions = {}): Uint32Array | undefined {
    // Texts of up to 8 characters a token fit or nearly fit: they are encoded at once.
    let pieceLength = Math.min(Math.max(2 ** 16, 8 * maxTokens), 2 ** 20);
    for (; pieceLength < text.length; pieceLength *= 2) {
      const tokens = this.encode(text.slice(0, pieceLength), options).length;
      if (tokens > maxTokens + CUT_TOKENS) return undefined;
    }
    return this.encode(text, options);
  }

  /**
   * The text of token ids. Bytes that are no UTF-8 become U+FFFD; ids that the vocabulary lacks become nothing.
   *
   * @throws InvalidArgumentError when an id is no whole number from 0 up.
   */
  decode(tokenIds: ArrayLike<number>, options: { readonly skipSpecialTokens?: boolean } = {}): string {
    const ids: number[] = [];
    for (const id of Array.from(tokenIds)) {
      if (!Number.isInteger(id) || id < 0) {
        throw new InvalidArgumentError({ argument: "tokenIds", expected: "whole numbers from 0 up", received: id });
      }
      ids.push(id);
    }
    if (ids.length === 0) return ""; // the library refuses an empty list
    const settings = {
      skip_special_tokens: options.skipSpecialTokens ?? true,
      clean_up_tokenization_spaces: false, // it would change what the model said
    };
    return guarded(this.#path, () => this.#library.decode(ids, settings));
  }

  /** Begins to decode tokens that arrive one by one. */
  stream(options: { readonly skipSpecialTokens?: boolean } = {}): TextStream {
    return new TextStream((ids) => this.decode(ids, options));
  }

  /** The id of a token as it is written in the vocabulary, or nothing when there is none. */
  tokenId(token: string): number | undefined {
    return this.#library.token_to_id(token);
  }
}

/** What the library fails with is the fault of the file that it was made of. */
function guarded<Result>(path: string, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    if (ParisKVError.isInstance(error)) throw error;
    const received = `a file that its reader fails with (${error instanceof Error ? error.message : "unknown"})`;
    throw new ModelFileError({ path, expected: "a complete tokenizer", received, cause: error });
  }
}

function tooSlow(path: string): (cause: unknown) => Error {
  return (cause) => new UnsupportedError({ feature: `a tokenizer whose patterns take too long (${path})`, cause });
}
