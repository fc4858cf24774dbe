import { EventEmitter } from "node:events";
import { Readable, Writable } from "node:stream";
import { describe, expect, it } from "vitest";
import { type ProgramProcess, processIo } from "../../src/cli/command-io.js";
import type { CommandHandlers } from "../../src/cli/program.js";
import { main } from "../../src/cli/run-cli.js";
import { COMMANDS } from "./fake-run.js";

/** A process of streams: `fail` makes one of them refuse to write, `exits` has the codes it was ended with. */
function fakeProcess(argv: readonly string[] = [], failure?: { stream: "stdout" | "stderr"; code: string }) {
  const written = { stdout: "", stderr: "" };
  const exits: number[] = [];
  const stream = (name: "stdout" | "stderr") =>
    new Writable({
      decodeStrings: false,
      write(chunk: string, _encoding, done) {
        if (failure?.stream === name) return done(Object.assign(new Error(failure.code), { code: failure.code }));
        written[name] += chunk;
        done();
      },
    });
  const fake = Object.assign(new EventEmitter(), {
    argv: ["node", "pariskv", ...argv],
    env: {} as NodeJS.ProcessEnv,
    exitCode: undefined as number | undefined,
    stdin: Readable.from([]),
    stdout: stream("stdout"),
    stderr: stream("stderr"),
    exit: (code: number) => void exits.push(code),
  });
  return { fake: fake as unknown as ProgramProcess & Pick<NodeJS.Process, "argv" | "exitCode">, written, exits };
}

const turn = () => new Promise(setImmediate);
const { signal } = new AbortController();

describe("processIo", () => {
  it("ends without a word when the reader of stdout has left", async () => {
    const { fake, written, exits } = fakeProcess([], { stream: "stdout", code: "EPIPE" });
    processIo(signal, fake).writeOutput("x");
    await turn();
    expect(exits).toEqual([0]);
    expect(written.stderr).toBe("");
  });

  it.each([
    ["ENOSPC", "Expected stdout to be writable but received a full disk.\n"],
    ["EIO", "Expected stdout to be writable but received the failure EIO.\n"],
  ])("ends with one sentence when stdout fails with %s", async (code, sentence) => {
    const { fake, written, exits } = fakeProcess([], { stream: "stdout", code });
    processIo(signal, fake).writeOutput("x");
    await turn();
    expect(exits).toEqual([1]);
    expect(written.stderr).toBe(sentence);
  });

  it("goes on when nobody reads stderr", async () => {
    const { fake, written, exits } = fakeProcess([], { stream: "stderr", code: "EPIPE" });
    const io = processIo(signal, fake);
    io.writeNotice("progress");
    await turn();
    io.writeOutput("answer");
    expect(exits).toEqual([]);
    expect(written.stdout).toBe("answer");
  });

  it("rewrites lines on a terminal only, and not on a dumb one", () => {
    const { fake } = fakeProcess();
    expect(processIo(signal, fake).noticeIsTerminal).toBe(false);
    Object.assign(fake.stderr, { isTTY: true });
    expect(processIo(signal, fake).noticeIsTerminal).toBe(true);
    fake.env.TERM = "dumb";
    expect(processIo(signal, fake).noticeIsTerminal).toBe(false);
  });
});

describe("main", () => {
  it("stops the work at the first interrupt and quits at the second", async () => {
    const { fake, exits } = fakeProcess(["doctor"]);
    let heard: AbortSignal | undefined;
    let end = () => {};
    const work = (io: { readonly signal: AbortSignal }) => {
      heard = io.signal;
      return new Promise<number>((resolve) => {
        end = () => resolve(0);
      });
    };
    const handlers = Object.fromEntries(COMMANDS.map((name) => [name, (_: unknown, io: never) => work(io)]));
    const running = main(handlers as unknown as CommandHandlers, fake);
    expect(heard?.aborted).toBe(false);
    (fake as unknown as EventEmitter).emit("SIGINT");
    expect(heard?.aborted).toBe(true);
    expect(exits).toEqual([]);
    (fake as unknown as EventEmitter).emit("SIGINT");
    expect(exits).toEqual([130]);
    end();
    await running;
    expect(fake.exitCode).toBe(130);
  });
});
