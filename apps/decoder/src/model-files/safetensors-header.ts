import { ModelFileError } from "@pariskv/quantizer";
import { decodeStrictly } from "./json-file.js";
import { MAX_TENSOR_NAME_LENGTH, MAX_TENSOR_RANK, MAX_TENSORS_PER_FILE } from "./limits.js";
import { parseStrictJson, quoteName } from "./strict-json.js";

/** Bytes of one element of each safetensors type that takes whole bytes. */
export const ELEMENT_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  I64: 8,
  U64: 8,
  F64: 8,
  C64: 8,
} as const;

/** The element types by their safetensors names. */
export type ElementType = keyof typeof ELEMENT_BYTES;

/** One tensor of a file: what it is and where its bytes lie. */
export interface TensorEntry {
  readonly name: string;
  readonly elementType: ElementType;
  /** Outer to inner; empty for a scalar. */
  readonly shape: readonly number[];
  /** From the beginning of the file. */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** A header that has been checked in full: its tensors in the order of their bytes. */
export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** The 8 bytes in front of the header, which hold its length. */
export const LENGTH_FIELD_BYTES = 8;

// name, object, three keys, type, two arrays and their numbers; as many again for the metadata
const MAX_VALUES = MAX_TENSORS_PER_FILE * (8 + MAX_TENSOR_RANK + 2) * 2;

/**
 * Parses and checks the header of a safetensors file of `fileBytes` bytes in all.
 *
 * Every tensor's bytes must equal shape times element size in checked arithmetic, and all tensors together must cover
 * the data part exactly: no hole, no overlap, no rest.
 *
 * @param header `[headerBytes] u8`, the JSON text behind the length field.
 * @throws ModelFileError that names the file and the byte offset of what is wrong.
 */
export function parseSafetensorsHeader(header: Uint8Array, path: string, fileBytes: number): SafetensorsHeader {
  const dataStartBytes = LENGTH_FIELD_BYTES + header.byteLength;
  const reader = new HeaderReader(path, dataStartBytes, fileBytes - dataStartBytes);
  return reader.read(decodeStrictly(header, path, LENGTH_FIELD_BYTES));
}

class HeaderReader {
  readonly #path: string;
  readonly #dataStartBytes: number;
  readonly #dataBytes: number;
  /** Where the entry being read stands. */
  #offsetBytes = LENGTH_FIELD_BYTES;

  constructor(path: string, dataStartBytes: number, dataBytes: number) {
    this.#path = path;
    this.#dataStartBytes = dataStartBytes;
    this.#dataBytes = dataBytes;
  }

  read(text: string): SafetensorsHeader {
    if (!text.startsWith("{")) throw this.#fail("a header that begins with {", quoteName(text.slice(0, 1)));
    const { value, keyOffsetsBytes } = parseStrictJson(text, {
      path: this.#path,
      startBytes: LENGTH_FIELD_BYTES,
      maxDepth: 3,
      maxValues: MAX_VALUES,
      wholeNumbersOnly: true,
    });
    const entries: TensorEntry[] = [];
    let metadata: ReadonlyMap<string, string> = new Map();
    for (const [name, entry] of Object.entries(value as Record<string, unknown>)) {
      this.#offsetBytes = keyOffsetsBytes.get(name) ?? LENGTH_FIELD_BYTES;
      if (name === "__metadata__") metadata = this.#metadata(entry);
      else entries.push(this.#tensor(name, entry));
      if (entries.length > MAX_TENSORS_PER_FILE)
        throw this.#fail(`a header of at most ${MAX_TENSORS_PER_FILE} tensors`, "more");
    }
    return { tensors: this.#cover(entries), metadata };
  }

  #metadata(value: unknown): Map<string, string> {
    if (!isPlainObject(value)) throw this.#fail("a __metadata__ of texts", describeJson(value));
    const metadata = new Map<string, string>();
    for (const [key, text] of Object.entries(value)) {
      if (typeof text !== "string")
        throw this.#fail("a __metadata__ of texts", `${describeJson(text)} as ${quoteName(key)}`);
      metadata.set(key, text);
    }
    return metadata;
  }

  #tensor(name: string, value: unknown): TensorEntry {
    const problem = nameProblem(name);
    if (problem !== undefined) throw this.#fail("a usable tensor name", `${quoteName(name)}, ${problem}`);
    const what = `tensor ${quoteName(name)}`;
    if (!isPlainObject(value)) throw this.#fail(`${what} as an object`, describeJson(value));
    for (const key of Object.keys(value)) {
      if (key !== "dtype" && key !== "shape" && key !== "data_offsets") {
        throw this.#fail(`${what} with dtype, shape and data_offsets`, `the key ${quoteName(key)}`);
      }
    }
    const elementType = value.dtype;
    if (typeof elementType !== "string" || !Object.hasOwn(ELEMENT_BYTES, elementType)) {
      throw this.#fail(`${what} with a dtype that safetensors knows`, describeJson(elementType));
    }
    const shape = this.#wholeNumbers(value.shape, `${what} with a shape of whole numbers`);
    if (shape.length > MAX_TENSOR_RANK) {
      throw this.#fail(`${what} with at most ${MAX_TENSOR_RANK} dimensions`, `${shape.length}`);
    }
    const offsets = this.#wholeNumbers(value.data_offsets, `${what} with data_offsets of two whole numbers`);
    const [begin = 0, end = 0] = offsets;
    if (offsets.length !== 2) throw this.#fail(`${what} with two data_offsets`, `${offsets.length}`);
    if (begin > end || end > this.#dataBytes) {
      throw this.#fail(`${what} inside the ${this.#dataBytes} bytes of data`, `the range ${begin} to ${end}`);
    }
    const sizeBytes = this.#checkedProduct([...shape, ELEMENT_BYTES[elementType as ElementType]], what);
    if (sizeBytes !== end - begin) {
      throw this.#fail(
        `${what} with ${sizeBytes} bytes, as its shape and dtype say`,
        `a range of ${end - begin} bytes`,
      );
    }
    return {
      name,
      elementType: elementType as ElementType,
      shape,
      offsetBytes: this.#dataStartBytes + begin,
      sizeBytes,
    };
  }

  #wholeNumbers(value: unknown, expected: string): number[] {
    if (!Array.isArray(value)) throw this.#fail(expected, describeJson(value));
    for (const number of value) {
      // Above 2^53 a number is no longer what the file says.
      if (!Number.isSafeInteger(number) || number < 0) throw this.#fail(expected, describeJson(number));
    }
    return value;
  }

  /** The product of whole numbers, refused as soon as it passes 2^53 (even when a later factor is 0). */
  #checkedProduct(factors: readonly number[], what: string): number {
    let product = 1;
    for (const factor of factors) {
      if (factor !== 0 && product > Number.MAX_SAFE_INTEGER / factor) {
        throw this.#fail(`${what} with fewer than 2^53 bytes`, `the shape [${factors.slice(0, -1).join(", ")}]`);
      }
      product *= factor;
    }
    return product;
  }

  /** Sorts by place and checks that each tensor begins where the one before it ends. */
  #cover(entries: TensorEntry[]): Map<string, TensorEntry> {
    entries.sort((a, b) => a.offsetBytes - b.offsetBytes || a.sizeBytes - b.sizeBytes);
    let coveredBytes = this.#dataStartBytes;
    for (const { name, offsetBytes, sizeBytes } of entries) {
      if (offsetBytes !== coveredBytes) {
        this.#offsetBytes = Math.min(offsetBytes, coveredBytes);
        const received = offsetBytes < coveredBytes ? "an overlap" : "a hole";
        throw this.#fail(`tensors that follow each other`, `${received} before tensor ${quoteName(name)}`);
      }
      coveredBytes += sizeBytes;
    }
    const restBytes = this.#dataStartBytes + this.#dataBytes - coveredBytes;
    if (restBytes !== 0) {
      this.#offsetBytes = coveredBytes;
      throw this.#fail("the end of the file", `${restBytes} bytes that belong to no tensor`);
    }
    return new Map(entries.map((entry) => [entry.name, entry]));
  }

  #fail(expected: string, received: string): ModelFileError {
    return new ModelFileError({ path: this.#path, offsetBytes: this.#offsetBytes, expected, received });
  }
}

function nameProblem(name: string): string | undefined {
  if (name.length === 0) return "which is empty";
  if (name.length > MAX_TENSOR_NAME_LENGTH) return `which is longer than ${MAX_TENSOR_NAME_LENGTH}`;
  if (/\p{Cc}/u.test(name)) return "which holds a control character";
  if (/\p{Cs}/u.test(name)) return "which holds half a character";
  // A name is never a path here, but other tools write one file a tensor.
  if (/^[\\/]|(^|[\\/])\.\.([\\/]|$)/.test(name)) return "which leads out of a folder";
  return undefined;
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function describeJson(value: unknown): string {
  if (value === undefined) return "none";
  if (typeof value === "string") return quoteName(value);
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" && value !== null ? "an object" : String(value);
}
