import { Readable } from "node:stream";
import type { CommandIo } from "../../src/cli/command-io.js";

/** A world of strings: what a command wrote, and what it reads. */
export interface FakeIo extends CommandIo {
  readonly output: () => string;
  readonly notices: () => string;
  readonly interrupt: () => void;
}

/** A world whose environment is the process's own, since commander reads that one. */
export function fakeIo(options: { readonly input?: string | Uint8Array; readonly terminal?: boolean } = {}): FakeIo {
  const controller = new AbortController();
  let output = "";
  let notices = "";
  return {
    environment: process.env,
    input: Readable.from([Buffer.from(options.input ?? "")]),
    writeOutput: (text) => {
      output += text;
    },
    writeNotice: (text) => {
      notices += text;
    },
    noticeIsTerminal: options.terminal ?? false,
    signal: controller.signal,
    output: () => output,
    notices: () => notices,
    interrupt: () => controller.abort(),
  };
}
