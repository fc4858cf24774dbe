import { readFileSync } from "node:fs";
import { expect, it, vi } from "vitest";

const read = (path: string): string => readFileSync(new URL(path, import.meta.url), "utf8");
const codeBlock = (language: string): string | undefined =>
  read("../README.md").match(new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``))?.[1];

it("the example of the README runs and prints what the README shows", async () => {
  const example = read("./readme-example.ts");
  expect(codeBlock("ts")).toBe(example.replace("../src/index.js", "@pariskv/memory"));

  const log = vi.spyOn(console, "log").mockImplementation(() => {});
  await import("./readme-example.js");
  const printed = log.mock.calls.map(([line]) => `${line}\n`).join("");
  log.mockRestore();
  expect(printed).toBe(codeBlock("text"));
});
