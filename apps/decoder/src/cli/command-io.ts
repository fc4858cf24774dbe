import type { Readable } from "node:stream";
import { EXIT } from "./exit-code.js";

/** The world as a command sees it: what it may read, where it writes, and when it has to stop. */
export interface CommandIo {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly input: Readable;
  /** Writes to stdout: the answer and nothing else. */
  readonly writeOutput: (text: string) => void;
  /** Writes to stderr: progress, notices, errors. No colour is ever written. */
  readonly writeNotice: (text: string) => void;
  /** Whether a line of stderr may be rewritten. */
  readonly noticeIsTerminal: boolean;
  /** Aborted by the first interrupt: stop generating, keep what is there. */
  readonly signal: AbortSignal;
}

/** The parts of the process that the program works with. */
export type ProgramProcess = Pick<NodeJS.Process, "env" | "stdin" | "stdout" | "stderr" | "on" | "exit">;

/**
 * The world of a process; `signal` is aborted by its first interrupt.
 *
 * When stdout takes no more, the program ends: without a word where the reader has left (`| head`), as other tools do, and
 * with one sentence where the disk is full. Whoever closes stderr wants no notices, and the answer goes on.
 */
export function processIo(signal: AbortSignal, from: ProgramProcess = process): CommandIo {
  const { env, stdin, stdout, stderr } = from;
  stdout.on("error", ({ code = "an unknown failure" }: NodeJS.ErrnoException) => {
    if (code === "EPIPE") return from.exit(EXIT.ok);
    const reason = code === "ENOSPC" ? "a full disk" : `the failure ${code}`;
    stderr.write(`Expected stdout to be writable but received ${reason}.\n`);
    return from.exit(EXIT.failure);
  });
  stderr.on("error", () => {});
  return {
    environment: env,
    input: stdin,
    writeOutput: (text) => void stdout.write(text),
    writeNotice: (text) => void stderr.write(text),
    noticeIsTerminal: stderr.isTTY === true && env.TERM !== "dumb",
    signal,
  };
}
