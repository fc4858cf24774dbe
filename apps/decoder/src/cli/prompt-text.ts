import { readFileSync, statSync } from "node:fs";
import { InvalidArgumentError } from "@pariskv/quantizer";
import type { CommandIo } from "./command-io.js";

/** The longest prompt that is read, in bytes: far above what 2^24 tokens need. */
export const MAX_PROMPT_BYTES = 256 * 1024 * 1024;

const DECODER = new TextDecoder("utf-8", { fatal: true });

/**
 * The prompt of a command: given in words, in a file, or on stdin when the file is `-`.
 *
 * @throws InvalidArgumentError when the file cannot be read, is empty, too large or not UTF-8.
 */
export async function readPrompt(
  options: { readonly prompt: string | undefined; readonly file: string | undefined },
  io: CommandIo,
): Promise<string> {
  if (options.prompt !== undefined) return requireText(options.prompt, "--prompt");
  const path = options.file ?? "-";
  const bytes = path === "-" ? await readInput(io) : readPromptFile(path);
  try {
    return requireText(DECODER.decode(bytes), "--file");
  } catch (error) {
    if (InvalidArgumentError.isInstance(error)) throw error;
    throw new InvalidArgumentError({ argument: "--file", expected: "UTF-8 text", received: path, cause: error });
  }
}

function requireText(text: string, argument: string): string {
  if (text.length > 0) return text;
  throw new InvalidArgumentError({ argument, expected: "a text of at least one character", received: "" });
}

function readPromptFile(path: string): Uint8Array {
  const refuse = (expected: string, cause?: unknown) =>
    new InvalidArgumentError({ argument: "--file", expected, received: path, cause });
  try {
    const stats = statSync(path);
    if (stats.isDirectory()) throw refuse("a file, not a folder");
    if (stats.size > MAX_PROMPT_BYTES) throw refuse(`a file of at most ${MAX_PROMPT_BYTES} bytes`);
    return readFileSync(path);
  } catch (error) {
    if (InvalidArgumentError.isInstance(error)) throw error;
    throw refuse("a readable file", error);
  }
}

async function readInput(io: CommandIo): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of io.input as AsyncIterable<Uint8Array | string>) {
    const bytes = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
    sizeBytes += bytes.byteLength;
    if (sizeBytes > MAX_PROMPT_BYTES) {
      const expected = `stdin of at most ${MAX_PROMPT_BYTES} bytes`;
      throw new InvalidArgumentError({ argument: "--file", expected, received: "more" });
    }
    chunks.push(bytes);
  }
  return Buffer.concat(chunks);
}
