import { closeSync, constants, fstatSync, openSync, readSync, type Stats, statSync } from "node:fs";
import { DisposedError, InvalidArgumentError, ModelFileError } from "@pariskv/quantizer";

/** One read call never asks for more: a call above 2 GiB fails, and progress stays lively. */
const CHUNK_BYTES = 8 * 1024 * 1024;

/** Called after each chunk with the bytes that have just arrived. */
export type BytesListener = (arrivedBytes: number) => void;

/**
 * A regular file that is read at given offsets and watched for changes.
 *
 * Links are followed; what they lead to must be a regular, non-empty file. Folders, named pipes, sockets and devices
 * are refused before they are opened, so that nothing blocks.
 */
export class PositionedFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly #modifiedMs: number;
  #descriptor: number | undefined;

  private constructor(path: string, descriptor: number, stats: Stats) {
    this.path = path;
    this.sizeBytes = stats.size;
    this.#modifiedMs = stats.mtimeMs;
    this.#descriptor = descriptor;
  }

  /**
   * Opens `path` for reading.
   *
   * @throws ModelFileError when there is no readable, regular, non-empty file.
   */
  static open(path: string): PositionedFile {
    requireRegularFile(
      path,
      attempt(path, () => statSync(path)),
    );
    // O_NONBLOCK: a pipe put there since the check above must not block the open.
    const descriptor = attempt(path, () => openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)));
    try {
      const stats = fstatSync(descriptor);
      requireRegularFile(path, stats);
      return new PositionedFile(path, descriptor, stats);
    } catch (error) {
      closeSync(descriptor);
      throw error;
    }
  }

  /**
   * Fills `target` with the bytes from `offsetBytes` on, in chunks of at most 8 MiB.
   *
   * @throws ModelFileError when the file ends early or has changed since it was opened.
   * @throws InvalidArgumentError when the range lies outside the file.
   * @throws DisposedError after `close()`.
   */
  readInto(target: Uint8Array, offsetBytes: number, onBytes?: BytesListener): void {
    const descriptor = this.#descriptor;
    if (descriptor === undefined) throw new DisposedError({ object: "model file" });
    if (!Number.isSafeInteger(offsetBytes) || offsetBytes < 0 || offsetBytes > this.sizeBytes - target.byteLength) {
      throw new InvalidArgumentError({
        argument: "offsetBytes",
        expected: `an offset with ${target.byteLength} bytes behind it in a file of ${this.sizeBytes} bytes`,
        received: offsetBytes,
      });
    }
    let doneBytes = 0;
    while (doneBytes < target.byteLength) {
      const chunkBytes = Math.min(CHUNK_BYTES, target.byteLength - doneBytes);
      const position = offsetBytes + doneBytes;
      const arrivedBytes = attempt(this.path, () => readSync(descriptor, target, doneBytes, chunkBytes, position));
      if (arrivedBytes === 0) throw this.#changed(position, "a file that became shorter");
      doneBytes += arrivedBytes;
      onBytes?.(arrivedBytes);
    }
    const stats = fstatSync(descriptor);
    if (stats.size !== this.sizeBytes || stats.mtimeMs !== this.#modifiedMs) {
      throw this.#changed(offsetBytes, "a file that was written to meanwhile");
    }
  }

  /** Closes the file; a second call does nothing. */
  close(): void {
    if (this.#descriptor === undefined) return;
    closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  #changed(offsetBytes: number, received: string): ModelFileError {
    return new ModelFileError({ path: this.path, offsetBytes, expected: "unchanged while it is read", received });
  }
}

function requireRegularFile(path: string, stats: Stats): void {
  const expected = "a regular, non-empty file";
  if (!stats.isFile()) throw new ModelFileError({ path, expected, received: kindOf(stats) });
  if (stats.size === 0) throw new ModelFileError({ path, expected, received: "an empty file" });
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return "a folder";
  if (stats.isFIFO()) return "a named pipe";
  if (stats.isSocket()) return "a socket";
  return "a device";
}

/** Runs a file operation; its failure becomes a ModelFileError that names the reason in words. */
function attempt<Result>(path: string, operation: () => Result): Result {
  try {
    return operation();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "an unknown failure";
    const received = FAILURES[code] ?? `the failure ${code}`;
    // A NUL byte would break the terminal; JSON's escapes show it.
    const shownPath = path.includes("\0") ? JSON.stringify(path) : path;
    throw new ModelFileError({ path: shownPath, expected: "a readable file", received, cause: error });
  }
}

const FAILURES: Readonly<Record<string, string>> = {
  ENOENT: "nothing by that name",
  ENOTDIR: "nothing by that name",
  EACCES: "a file without permission to read it",
  EPERM: "a file without permission to read it",
  ELOOP: "links that lead in a circle",
  ENAMETOOLONG: "a name that is too long",
  ERR_INVALID_ARG_VALUE: "a name with a NUL character",
};
