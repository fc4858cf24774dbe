import { join } from "node:path";
import { InvalidArgumentError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { readPrompt } from "../../src/cli/prompt-text.js";
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

  it.each([
    ["a missing file", () => fromFile(join(folder, "none"))],
    ["a folder", () => fromFile(folder)],
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
