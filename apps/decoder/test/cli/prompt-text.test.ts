import { execFileSync } from "node:child_process";
import { createWriteStream } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { InvalidArgumentError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { MAX_PROMPT_BYTES, readPrompt } from "../../src/cli/prompt-text.js";
import { temporaryFolder, write } from "../model-files/temporary-folder.js";
import { fakeIo } from "./fake-io.js";

const folder = temporaryFolder();
const fromFile = (file: string, input?: string | Uint8Array) =>
  readPrompt({ prompt: undefined, file }, fakeIo({ input }));

describe("readPrompt", () => {
  it("takes the text, the file or stdin", async () => {
    expect(await readPrompt({ prompt: "text", file: undefined }, fakeIo())).toBe("text");
    expect(await fromFile(write(folder, "prompt.txt", "from a file\n"))).toBe("from a file\n");
    expect(await fromFile("-", "from stdin")).toBe("from stdin");
  });

  it("reads a pipe", async () => {
    const pipe = join(folder, "pipe");
    execFileSync("mkfifo", [pipe]);
    const writer = createWriteStream(pipe);
    writer.end("from a pipe");
    expect(await fromFile(pipe)).toBe("from a pipe");
  });

  it("stops reading what never ends", async () => {
    const endless = Readable.from(
      (function* () {
        for (;;) yield new Uint8Array(16 * 1024 * 1024);
      })(),
    );
    const reading = readPrompt({ prompt: undefined, file: "-" }, { ...fakeIo(), input: endless });
    await expect(reading).rejects.toThrow(`Expected --file to be at most ${MAX_PROMPT_BYTES} bytes long`);
  });

  it("hears an interrupt while it waits for stdin", async () => {
    const io = { ...fakeIo(), input: new Readable({ read() {} }) };
    const reading = readPrompt({ prompt: undefined, file: "-" }, io);
    io.interrupt();
    await expect(reading).rejects.toMatchObject({ name: "AbortError" });
  });

  it.each([
    ["a missing file", () => fromFile(join(folder, "none"))],
    ["a folder", () => fromFile(folder)],
    ["a name with a NUL character", () => fromFile("a\0b")],
    ["an empty file", () => fromFile(write(folder, "empty", ""))],
    ["a file that is not UTF-8", () => fromFile(write(folder, "latin", Uint8Array.of(0x61, 0xe9)))],
    ["an empty stdin", () => fromFile("-", "")],
    ["a stdin that is not UTF-8", () => fromFile("-", Uint8Array.of(0xff))],
    ["an empty text", () => readPrompt({ prompt: "", file: undefined }, fakeIo())],
  ])("refuses %s as a usage error", async (_, read) => {
    await expect(read()).rejects.toThrow(InvalidArgumentError);
    await expect(read()).rejects.toThrow(/^Expected --(file|prompt) to be .* but received .*\.$/);
  });
});
