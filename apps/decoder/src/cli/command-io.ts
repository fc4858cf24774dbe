import type { Readable } from "node:stream";

/** The world as a command sees it: what it may read, where it writes, and when it has to stop. */
export interface CommandIo {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly input: Readable;
  /** Writes to stdout: the answer and nothing else. */
  readonly writeOutput: (text: string) => void;
  /** Writes to stderr: progress, notices, errors. */
  readonly writeNotice: (text: string) => void;
  readonly outputIsTerminal: boolean;
  readonly noticeIsTerminal: boolean;
  /** Whether escape codes for colour may be written. */
  readonly usesColor: boolean;
  /** Aborted by the first interrupt: stop generating, keep what is there. */
  readonly signal: AbortSignal;
}

/** The world of this process; `signal` is aborted by its first interrupt. */
export function processIo(signal: AbortSignal): CommandIo {
  const { env, stdin, stdout, stderr } = process;
  // A reader that leaves (`| head`) ends the program without a word, as it does with other tools.
  stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    throw error;
  });
  return {
    environment: env,
    input: stdin,
    writeOutput: (text) => void stdout.write(text),
    writeNotice: (text) => void stderr.write(text),
    outputIsTerminal: stdout.isTTY === true,
    noticeIsTerminal: stderr.isTTY === true,
    // no-color.org: any text that is not empty switches colour off
    usesColor: stderr.isTTY === true && !env.NO_COLOR && env.TERM !== "dumb",
    signal,
  };
}
