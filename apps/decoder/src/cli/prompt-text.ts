import { createReadStream } from "node:fs";
import { addAbortSignal, type Readable } from "node:stream";
import { InvalidArgumentError } from "@pariskv/quantizer";
import type { CommandIo } from "./command-io.js";

/** The longest prompt that is read, in bytes: far above what any model's context holds. */
export const MAX_PROMPT_BYTES = 128 * 1024 * 1024;

const DECODER = new TextDecoder("utf-8", { fatal: true });

/**
 * The prompt of a command: given in words, in a file or pipe, or on stdin when the file is `-`.
 *
 * @throws InvalidArgumentError when the file cannot be read, is empty, too large or not UTF-8; an AbortError after an
 * interrupt.
 */
export async function readPrompt(
  options: { readonly prompt: string | undefined; readonly file: string | undefined },
  io: CommandIo,
): Promise<string> {
  if (options.prompt !== undefined) return requireText(options.prompt, "--prompt");
  const path = options.file ?? "-";
  const bytes = await readLimited(path === "-" ? io.input : openPromptFile(path), path, io.signal);
  try {
    return requireText(DECODER.decode(bytes), "--file");
  } catch (error) {
    if (InvalidArgumentError.isInstance(error)) throw error;
    throw refuse("UTF-8 text", path, error);
  }
}

function requireText(text: string, argument: string): string {
  if (text.length > 0) return text;
  throw new InvalidArgumentError({ argument, expected: "a text of at least one character", received: "" });
}

function refuse(expected: string, path: string, cause?: unknown): InvalidArgumentError {
  return new InvalidArgumentError({ argument: "--file", expected, received: path, cause });
}

function openPromptFile(path: string): Readable {
  if (path.includes("\0")) throw refuse("a name without a NUL character", path);
  return createReadStream(path);
}

/** Everything a stream gives, counted as it comes: a device may never end, and a pipe does not say its length. */
async function readLimited(stream: Readable, path: string, signal: AbortSignal): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of addAbortSignal(signal, stream) as AsyncIterable<Uint8Array>) {
      sizeBytes += chunk.byteLength;
      if (sizeBytes > MAX_PROMPT_BYTES) throw refuse(`at most ${MAX_PROMPT_BYTES} bytes long`, path);
      chunks.push(chunk);
    }
  } catch (error) {
    if (signal.aborted || InvalidArgumentError.isInstance(error)) throw error;
    const isFolder = (error as NodeJS.ErrnoException).code === "EISDIR";
    throw refuse(isFolder ? "a file, not a folder" : "a readable file", path, error);
  }
  return Buffer.concat(chunks);
}
