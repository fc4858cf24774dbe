import { join } from "node:path";
import { Readable } from "node:stream";
import { buildNeedleDemo } from "@pariskv/evaluation";
import { deviceStatus } from "@pariskv/kernels";
import { beforeAll, describe, expect, test } from "vitest";
import { runCli } from "../../src/cli/run-cli.js";
import { commandHandlers } from "../../src/commands/handlers.js";
import { bundledModelPath } from "../../src/model-files/bundled-model.js";
import { TextTokenizer } from "../../src/text/tokenizer.js";
import { fakeIo } from "../cli/fake-io.js";
import { temporaryFolder, write } from "../model-files/temporary-folder.js";
import { pariskv } from "./pariskv.js";

const folder = temporaryFolder();
/** Plain TypeScript reads about a hundred tokens a second: enough for the shortest haystack. */
const CONTEXT = deviceStatus().some(({ device, available }) => device === "cpu" && available) ? 4096 : 1024;

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
    expect(output).toMatch(/memory: weights [\d.]+ MB, workspaces .*, records /);
  });

  test("run writes the answer and nothing else to stdout, and what it cost to stderr", async () => {
    const { code, output, notices } = await pariskv(["run", "-f", prompt, "-n", "80", "--retrieval-k", "64"]);
    for (const value of values) expect(output).toContain(value);
    expect(output.trim().split("\n")).toHaveLength(1);
    expect(notices).toMatch(/prefill: \d+ tokens/);
    expect(notices).toMatch(/% of K and V a token\nended by {2}end\n$/);
    expect(code).toBe(0);
  });

  test("run ends before a stop string and says so", async () => {
    const { output } = await pariskv(["run", "-f", prompt, "-n", "80", "--stop", ";", "--json"]);
    const report = JSON.parse(output);
    expect(report.stop).toBe("stop string");
    expect(report.text).not.toContain(";");
    expect(report.text).toContain(values[0]);
  });

  test("run answers with one token when the prompt fills the context", async () => {
    const words = ["run", "-p", "In the beginning", "--json"];
    const { tokens } = JSON.parse((await pariskv([...words, "-n", "1"])).output).prompt;
    const { code, output, notices } = await pariskv([...words, "-c", String(tokens)]);
    expect(code).toBe(0);
    expect(JSON.parse(output)).toMatchObject({ stop: "context", readShare: null, tokensPerSecond: null });
    expect(JSON.parse(output).tokenIds).toHaveLength(1);
    expect(notices).toMatch(/^answer {4}1 token\nread {6}the prompt only\nended by {2}context\n/m);
    expect((await pariskv([...words, "-c", String(tokens - 1)])).code).toBe(2);
  });

  test("run continues a prompt of special tokens only", async () => {
    const { code, output } = await pariskv(["run", "-p", "<|bos|>", "-n", "3", "--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(output)).toMatchObject({ prompt: { tokens: 2 }, stop: "limit" });
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

  test("compare compares one token when the prompt fills the context", async () => {
    const { code, output } = await pariskv(["compare", "-p", "hello", "-c", "4", "--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(output)).toMatchObject({ promptTokens: 4, firstDivergence: null, kl: [], top1Agreement: 1 });
  });

  test("chat answers line by line and reads only what is new", async () => {
    const { code, output, notices } = await pariskv(["chat", "-n", "6"], "Who came first?\nAnd then?\n");
    expect(code).toBe(0);
    expect(output.trim().split("\n")).toHaveLength(2);
    const read = [...notices.matchAll(/prefill: (\d+) tokens/g)].map((match) => Number(match[1]));
    expect(read).toHaveLength(2);
    expect(read[1]).toBeLessThan(30);
  });

  test("chat --json writes one object a turn and asks for nothing where stderr is no terminal", async () => {
    const { output, notices } = await pariskv(["chat", "-n", "2", "--json"], "One?\n\nTwo?\n");
    const turns = output
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(turns.map((turn) => turn.tokenIds.length)).toEqual([2, 2]);
    expect(notices).not.toContain("> ");
  });

  test("chat ends when it is interrupted while it waits for a line", async () => {
    const io = { ...fakeIo(), input: new Readable({ read() {} }) };
    const running = runCli(["chat"], commandHandlers, io);
    while (!io.notices().includes("Ctrl-D")) await new Promise(setImmediate);
    io.interrupt();
    expect(await running).toBe(130);
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

  test("bench refuses lengths that the context never has room for", async () => {
    const { code, notices } = await pariskv(["bench", "--lengths", "256k"]);
    expect(code).toBe(2);
    expect(notices).toMatch(/Expected --lengths to be at most \d+, .* but received 262144\.\n$/);
  });

  test("doctor names every device and why it is not there", async () => {
    const { code, output } = await pariskv(["doctor"]);
    expect(code).toBe(0);
    for (const name of ["cuda", "cpu", "reference", "chosen"]) expect(output).toMatch(new RegExp(`^${name} `, "m"));
    if (CONTEXT === 4096) expect(output).toMatch(/memory is read at +[\d.]+ GB\/s/);
  });

  test("doctor writes what it measured as numbers", async () => {
    const { code, output } = await pariskv(["doctor", "--json"]);
    expect(code).toBe(0);
    const { chosen, reads } = JSON.parse(output);
    expect(reads).toHaveLength({ cuda: 2, cpu: 1, reference: 0 }[chosen.device as string] ?? -1);
    for (const { bytesPerSecond } of reads) expect(bytesPerSecond).toBeGreaterThan(1e8);
  });
});
