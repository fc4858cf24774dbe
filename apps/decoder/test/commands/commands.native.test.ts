import { mkdirSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { buildNeedleDemo } from "@pariskv/evaluation";
import { deviceStatus } from "@pariskv/kernels";
import { beforeAll, describe, expect, test } from "vitest";
import { runCli } from "../../src/cli/run-cli.js";
import { commandHandlers } from "../../src/commands/handlers.js";
import { bundledModelPath } from "../../src/model-files/bundled-model.js";
import { TextTokenizer } from "../../src/text/tokenizer.js";
import { fakeIo } from "../cli/fake-io.js";
import { temporaryFolder, write } from "../model-files/temporary-folder.js";
import { writeTinyModel } from "../model-files/tiny-model.js";

const folder = temporaryFolder();
/** Plain TypeScript reads about a hundred tokens a second: enough for the shortest haystack. */
const CONTEXT = deviceStatus().some(({ device, available }) => device === "cpu" && available) ? 4096 : 1024;

async function pariskv(words: readonly string[], input = "") {
  const io = fakeIo({ input });
  const code = await runCli(words, commandHandlers, io);
  return { code, output: io.output(), notices: io.notices() };
}

describe("the commands on the bundled model", () => {
  const prompt = join(folder, "prompt.txt");
  let values: readonly string[] = [];
  beforeAll(() => {
    const tokenizer = TextTokenizer.open(bundledModelPath());
    const sample = buildNeedleDemo({ tokenizer, contextTokens: CONTEXT, seed: 3 });
    write(folder, "prompt.txt", sample.prompt);
    values = sample.values;
  });

  test("demo finds every value with dense attention and with retrieval", async () => {
    const { code, output } = await pariskv(["demo", "--ctx-size", String(CONTEXT), "--json"]);
    const report = JSON.parse(output);
    expect(report.modes.map((mode: { valuesRight: number }) => mode.valuesRight)).toEqual([4, 4]);
    expect(report.modes[0].readShare).toBe(1);
    expect(report.modes[1].readShare).toBeLessThan(0.8);
    expect(code).toBe(0);
  });

  test("demo prints both answers and the table", async () => {
    const { code, output } = await pariskv(["demo", "--ctx-size", "1024"]);
    expect(code).toBe(0);
    expect(output).toMatch(/dense {2,}4 of 4/);
    expect(output).toMatch(/retrieval {2,}4 of 4/);
    expect(output).toMatch(/memory: window/);
  });

  test("run writes the answer and nothing else to stdout, and what it cost to stderr", async () => {
    const { code, output, notices } = await pariskv(["run", "-f", prompt, "-n", "80", "--retrieval-k", "64"]);
    for (const value of values) expect(output).toContain(value);
    expect(output.trim().split("\n")).toHaveLength(1);
    expect(notices).toMatch(/prefill: \d+ tokens/);
    expect(notices).toMatch(/% of K and V read a token; ended by end/);
    expect(code).toBe(0);
  });

  test("run ends before a stop string and says so", async () => {
    const { output } = await pariskv(["run", "-f", prompt, "-n", "80", "--stop", ";", "--json"]);
    const report = JSON.parse(output);
    expect(report.stop).toBe("stop string");
    expect(report.text).not.toContain(";");
    expect(report.text).toContain(values[0]);
  });

  test("run with a seed gives the same sampled answer twice", async () => {
    const words = ["run", "-p", "In the beginning", "-n", "24", "--temperature", "0.8", "--seed", "5"];
    const first = await pariskv(words);
    expect((await pariskv(words)).output).toBe(first.output);
    expect((await pariskv([...words.slice(0, -1), "6"])).output).not.toBe(first.output);
  });

  test("run reads a prompt from stdin", async () => {
    const { code, output } = await pariskv(["run", "-f", "-", "-n", "4", "--json"], "In the beginning");
    expect(code).toBe(0);
    expect(JSON.parse(output).tokenIds).toHaveLength(4);
  });

  test("compare finds no divergence where the answer hangs on few tokens", async () => {
    const { code, output } = await pariskv(["compare", "-f", prompt, "-n", "60", "--json"]);
    const report = JSON.parse(output);
    expect(code).toBe(0);
    expect(report.firstDivergence).toBeNull();
    expect(report.top1Agreement).toBeGreaterThan(0.95);
    expect(report.kl).toHaveLength(report.denseTokenIds.length);
    expect(report.readShare).toBeLessThan(0.9);
  });

  test("chat answers line by line and reads only what is new", async () => {
    const { code, output, notices } = await pariskv(["chat", "-n", "6"], "Who came first?\nAnd then?\n");
    expect(code).toBe(0);
    expect(output.trim().split("\n")).toHaveLength(2);
    const read = [...notices.matchAll(/prefill: (\d+) tokens/g)].map((match) => Number(match[1]));
    expect(read).toHaveLength(2);
    expect(read[1]).toBeLessThan(30);
  });

  test("plan predicts what is allocated and refuses what cannot fit", async () => {
    const { code, output } = await pariskv(["plan", "-c", "32k", "--json"]);
    const report = JSON.parse(output);
    expect(code).toBe(0);
    expect(report.perToken).toEqual({ kvBytes: 6 * 2 * 512, summaryBytes: 6 * 2 * 96 });
    const huge = await pariskv(["plan", "-c", "16m", "--parallel", "4096"]);
    expect(huge.code).toBe(3);
    expect(huge.output).toMatch(/does not fit: [\d.]+ MiB of [\d.]+ MiB free/);
  });

  test("bench measures both kinds of attention and skips what the context has no room for", async () => {
    const { code, output, notices } = await pariskv(["bench", "--lengths", "1k,256k", "--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(output).rows.map((row: { mode: string }) => row.mode)).toEqual(["dense", "retrieval"]);
    expect(notices).toMatch(/262144 tokens are skipped/);
  });

  test("doctor names every device and why it is not there", async () => {
    const { code, output } = await pariskv(["doctor"]);
    expect(code).toBe(0);
    for (const name of ["cuda", "cpu", "reference", "chosen"]) expect(output).toMatch(new RegExp(`^${name} `, "m"));
  });
});

describe("bad input gets one sentence and the right exit code", () => {
  const cases: [string, () => string[], number, RegExp][] = [
    ["a folder that is no model", () => ["run", folder, "-p", "x"], 5, /config\.json/],
    ["a model that does not exist", () => ["run", join(folder, "nothing"), "-p", "x"], 5, /nothing/],
    [
      "a prompt longer than the context",
      () => ["run", "-p", "word ".repeat(3000), "-c", "1024"],
      2,
      /at most 1024 tokens/,
    ],
    ["a context longer than the model's", () => ["run", "-p", "x", "-c", "1m"], 2, /at most 65536 tokens/],
    ["K = 0", () => ["demo", "--retrieval-k", "0"], 2, /from 1 to 65536/],
    ["an unknown flag", () => ["demo", "--retrival-k", "5"], 2, /unknown option/i],
    ["an unknown device", () => ["doctor", "--device", "tpu"], 2, /--device/],
    ["an empty prompt", () => ["run", "-p", ""], 2, /at least one character/],
    ["a prompt file that is not there", () => ["run", "-f", join(folder, "absent.txt")], 2, /a readable file/],
    ["a truncated weight file", () => ["run", truncatedModel(), "-p", "x"], 5, /model\.safetensors/],
  ];
  for (const [name, words, code, sentence] of cases) {
    test(name, async () => {
      const result = await pariskv(words());
      expect(result.notices).toMatch(sentence);
      expect(result.code).toBe(code);
      expect(result.output).toBe("");
      expect(result.notices.trim().split("\n")).toHaveLength(1);
    });
  }

  test("a device that is not there is refused with its reason", async (ctx) => {
    const cuda = deviceStatus().find(({ device }) => device === "cuda");
    ctx.skip(cuda?.available === true, "cuda is there");
    const { code, notices } = await pariskv(["demo", "--device", "cuda"]);
    expect(code).toBe(4);
    expect(notices).toMatch(/cuda/);
  });

  test("an interrupt stops the work with exit code 130 and no stack trace", async () => {
    const io = fakeIo();
    const running = runCli(["demo", "--ctx-size", "1024"], commandHandlers, io);
    io.interrupt();
    expect(await running).toBe(130);
    expect(io.notices()).not.toMatch(/ at /);
  });

  function truncatedModel(): string {
    const path = join(folder, "truncated");
    mkdirSync(path, { recursive: true });
    writeTinyModel(path);
    truncateSync(join(path, "model.safetensors"), 100);
    return path;
  }
});
