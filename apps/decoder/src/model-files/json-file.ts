import { ModelFileError } from "@pariskv/quantizer";
import { PositionedFile } from "./positioned-file.js";
import { parseStrictJson } from "./strict-json.js";

const DECODER = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Reads a whole text file of at most `maxBytes` bytes.
 *
 * @throws ModelFileError when the file is missing, larger, empty or not UTF-8.
 */
export function readTextFile(path: string, maxBytes: number): string {
  const file = PositionedFile.open(path);
  try {
    if (file.sizeBytes > maxBytes) {
      throw new ModelFileError({
        path,
        expected: `a file of at most ${maxBytes} bytes`,
        received: `${file.sizeBytes} bytes`,
      });
    }
    const bytes = new Uint8Array(file.sizeBytes);
    file.readInto(bytes, 0);
    return decodeStrictly(bytes, path, 0);
  } finally {
    file.close();
  }
}

/**
 * Decodes UTF-8 and refuses anything else.
 *
 * @throws ModelFileError when a byte sequence is not UTF-8.
 */
export function decodeStrictly(bytes: Uint8Array, path: string, offsetBytes: number): string {
  try {
    return DECODER.decode(bytes);
  } catch (error) {
    const received = "bytes that are not UTF-8";
    throw new ModelFileError({ path, offsetBytes, expected: "UTF-8 text", received, cause: error });
  }
}

/**
 * Reads a file that holds one JSON object: at most `maxBytes` bytes, 64 levels, no duplicate keys, no `__proto__`.
 *
 * @throws ModelFileError when the file is anything else.
 */
export function readJsonObject(path: string, maxBytes: number): Readonly<Record<string, unknown>> {
  const text = readTextFile(path, maxBytes);
  const limits = { path, startBytes: 0, maxDepth: 64, maxValues: 8_388_608, wholeNumbersOnly: false };
  const { value } = parseStrictJson(text, limits);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ModelFileError({
      path,
      expected: "a JSON object",
      received: Array.isArray(value) ? "an array" : "a scalar",
    });
  }
  return value as Record<string, unknown>;
}
