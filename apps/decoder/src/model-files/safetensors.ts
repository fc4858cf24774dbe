import { InvalidArgumentError, ModelFileError } from "@pariskv/quantizer";
import { MAX_HEADER_BYTES } from "./limits.js";
import { type BytesListener, PositionedFile } from "./positioned-file.js";
import { LENGTH_FIELD_BYTES, parseSafetensorsHeader, type TensorEntry } from "./safetensors-header.js";

/**
 * A safetensors file whose header has been checked in full; its tensors are read by position.
 *
 * Holds a file descriptor: call `close()` or use `using`.
 */
export class SafetensorsFile {
  /** The tensors in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** The free texts of `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
  readonly #file: PositionedFile;

  private constructor(
    file: PositionedFile,
    tensors: ReadonlyMap<string, TensorEntry>,
    metadata: ReadonlyMap<string, string>,
  ) {
    this.#file = file;
    this.tensors = tensors;
    this.metadata = metadata;
  }

  /** The path it was opened by. */
  get path(): string {
    return this.#file.path;
  }

  /**
   * Opens a file and checks its header; no byte of the tensors is read.
   *
   * The declared length of the header is compared with the file's size before anything is allocated.
   *
   * @throws ModelFileError that names the file and the byte offset of what is wrong.
   */
  static open(path: string): SafetensorsFile {
    const file = PositionedFile.open(path);
    try {
      const header = readHeader(file);
      const { tensors, metadata } = parseSafetensorsHeader(header, path, file.sizeBytes);
      return new SafetensorsFile(file, tensors, metadata);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /**
   * Reads one tensor's bytes, little-endian and row-major, into `target`.
   *
   * @param target `[sizeBytes] u8`, exactly as long as the tensor.
   * @throws InvalidArgumentError when there is no such tensor or `target` has another length.
   * @throws ModelFileError when the file has changed since it was opened.
   * @throws DisposedError after `close()`.
   */
  readTensorInto(name: string, target: Uint8Array, onBytes?: BytesListener): void {
    const entry = this.#entry(name);
    if (target.byteLength !== entry.sizeBytes) {
      throw new InvalidArgumentError({
        argument: "target",
        expected: `${entry.sizeBytes} bytes for tensor ${name}`,
        received: target.byteLength,
      });
    }
    this.#file.readInto(target, entry.offsetBytes, onBytes);
  }

  /**
   * Reads the bytes of one tensor from `offsetBytes` on into `target`, as many as it holds.
   *
   * @throws InvalidArgumentError when there is no such tensor or it ends before `target` is full.
   * @throws ModelFileError when the file has changed since it was opened.
   * @throws DisposedError after `close()`.
   */
  readTensorPart(name: string, offsetBytes: number, target: Uint8Array): void {
    const entry = this.#entry(name);
    if (!Number.isSafeInteger(offsetBytes) || offsetBytes < 0 || offsetBytes > entry.sizeBytes - target.byteLength) {
      throw new InvalidArgumentError({
        argument: "offsetBytes",
        expected: `an offset with ${target.byteLength} bytes behind it in tensor ${name} of ${entry.sizeBytes} bytes`,
        received: offsetBytes,
      });
    }
    this.#file.readInto(target, entry.offsetBytes + offsetBytes);
  }

  /** Closes the file; a second call does nothing. */
  close(): void {
    this.#file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #entry(name: string): TensorEntry {
    const entry = this.tensors.get(name);
    if (entry) return entry;
    throw new InvalidArgumentError({ argument: "name", expected: `a tensor of ${this.path}`, received: name });
  }
}

/** The JSON text behind the length field: `[headerBytes] u8`. */
function readHeader(file: PositionedFile): Uint8Array {
  const fail = (expected: string, received: string) =>
    new ModelFileError({ path: file.path, offsetBytes: 0, expected, received });
  if (file.sizeBytes < LENGTH_FIELD_BYTES) {
    throw fail(`a safetensors file of at least ${LENGTH_FIELD_BYTES} bytes`, `${file.sizeBytes} bytes`);
  }
  const lengthField = new Uint8Array(LENGTH_FIELD_BYTES);
  file.readInto(lengthField, 0);
  // 64 bits: compared as a bigint, since a number would round.
  const declaredBytes = new DataView(lengthField.buffer).getBigUint64(0, true);
  if (declaredBytes > BigInt(MAX_HEADER_BYTES)) {
    throw fail(`a header length of at most ${MAX_HEADER_BYTES} bytes`, `${declaredBytes}`);
  }
  const headerBytes = Number(declaredBytes);
  if (headerBytes < 2 || headerBytes > file.sizeBytes - LENGTH_FIELD_BYTES) {
    throw fail(
      `a header length from 2 to ${file.sizeBytes - LENGTH_FIELD_BYTES}, the rest of the file`,
      `${headerBytes}`,
    );
  }
  const header = new Uint8Array(headerBytes);
  file.readInto(header, LENGTH_FIELD_BYTES);
  return header;
}
