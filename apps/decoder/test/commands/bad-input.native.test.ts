import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deviceStatus } from "@pariskv/kernels";
import { describe, expect, test, vi } from "vitest";
import { runCli } from "../../src/cli/run-cli.js";
import { commandHandlers } from "../../src/commands/handlers.js";
import { bundledModelPath } from "../../src/model-files/bundled-model.js";
import { fakeIo } from "../cli/fake-io.js";
import { isolateEnvironment } from "../cli/fake-run.js";
import { writeRandomModel } from "../model/random-model.js";
import { safetensorsBytes } from "../model-files/safetensors-bytes.js";
import { temporaryFolder, write } from "../model-files/temporary-folder.js";
import { TINY_CONFIG, tinyWeights, writeTinyModel } from "../model-files/tiny-model.js";
import { pariskv } from "./pariskv.js";

isolateEnvironment();
const folder = temporaryFolder();

/** A folder of its own with the files of the bundled model; `change` spoils it. */
function spoiled(name: string, change: (path: string) => void): string {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  for (const file of ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]) {
    const target = join(path, file);
    rmSync(target, { force: true });
    copyFileSync(join(bundledModelPath(), file), target);
  }
  change(path);
  return path;
}

const truncated = () => {
  const path = writeTinyModel(join(folder, "truncated"));
  truncateSync(join(path, "model.safetensors"), 100);
  return path;
};
/** A header length, in bytes, in the place of the true one. */
const lying = (declaredBytes: bigint) =>
  spoiled("lying", (path) => write(path, "model.safetensors", safetensorsBytes({ header: {}, declaredBytes })));
const wide = () =>
  spoiled("wide", (path) => {
    const config = JSON.parse(readFileSync(join(path, "config.json"), "utf8"));
    write(path, "config.json", { ...config, hidden_size: 262_144 });
    write(path, "model.safetensors", "x");
  });
const escaping = (shard: string) =>
  spoiled("escaping", (path) => {
    rmSync(join(path, "model.safetensors"));
    write(path, "model.safetensors.index.json", { weight_map: { a: shard } });
  });
const pipe = (file: string) =>
  spoiled("pipe", (path) => {
    rmSync(join(path, file));
    execFileSync("mkfifo", [join(path, file)]);
  });
const hugeTokenizer = () => spoiled("huge-tokenizer", (path) => truncateSync(join(path, "tokenizer.json"), 70_000_000));
const deepTokenizer = () => spoiled("deep-tokenizer", (path) => write(path, "tokenizer.json", "[".repeat(1_000_000)));
const notANumber = () =>
  spoiled("not-a-number", (path) => {
    const file = join(path, "model.safetensors");
    const bytes = readFileSync(file);
    const dataStart = 8 + Number(bytes.readBigUInt64LE(0));
    writeFileSync(file, bytes.fill(0xff, dataStart)); // 0xffff is a NaN of bf16
  });
const oddHeads = () => {
  const path = join(folder, "odd-heads");
  const config = { ...TINY_CONFIG, head_dim: 96 };
  mkdirSync(path, { recursive: true });
  write(path, "config.json", config);
  write(path, "model.safetensors", tinyWeights(config));
  copyFileSync(join(bundledModelPath(), "tokenizer.json"), join(path, "tokenizer.json"));
  return path;
};
/** A tokenizer of 4,096 tokens beside a model that knows 16. */
const foreignTokenizer = () => {
  const path = join(folder, "foreign-tokenizer");
  writeRandomModel(path, { ...TINY_CONFIG, head_dim: 64, max_position_embeddings: 512 }, "BF16", 1);
  copyFileSync(join(bundledModelPath(), "tokenizer.json"), join(path, "tokenizer.json"));
  return path;
};
const unreal = (name: string, config: object) => {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  write(path, "config.json", { ...TINY_CONFIG, head_dim: 64, ...config });
  return path;
};

/** Memory that no error may take, in bytes: what the tests themselves write is a tenth of it. */
const MOST_GROWTH_BYTES = 300e6;

describe("bad input gets one sentence and the right exit code", () => {
  const cases: [string, () => string[], number, RegExp][] = [
    ["a folder that is no model", () => ["run", folder, "-p", "x"], 5, /config\.json/],
    ["a model that does not exist", () => ["run", join(folder, "nothing"), "-p", "x"], 5, /nothing/],
    ["a repository that is not there", () => ["run", "no-such/model", "-p", "x"], 5, /downloaded model no-such\/model/],
    ["a name that commands the terminal", () => ["run", "a\u001b[31m/b/c", "-p", "x"], 5, /a\uFFFD\[31m/],
    ["a truncated weight file", () => ["run", truncated(), "-p", "x"], 5, /model\.safetensors/],
    ["a header length of 2^60", () => ["run", lying(2n ** 60n), "-p", "x"], 5, /received 1152921504606846976\./],
    ["a header length of 2^64 - 1", () => ["plan", lying(2n ** 64n - 1n)], 5, /at most 100000000 bytes/],
    ["a width of 262144 and one byte of weights", () => ["run", wide(), "-p", "x"], 5, /received 1 bytes/],
    ["a shard outside the folder", () => ["run", escaping("../other.safetensors"), "-p", "x"], 5, /beside it/],
    ["a shard with an absolute path", () => ["run", escaping("/etc/hosts"), "-p", "x"], 5, /beside it/],
    ["a pipe for weights", () => ["run", pipe("model.safetensors"), "-p", "x"], 5, /a named pipe/],
    ["a pipe for the config", () => ["run", pipe("config.json"), "-p", "x"], 5, /a named pipe/],
    ["a pipe for the tokenizer", () => ["run", pipe("tokenizer.json"), "-p", "x"], 5, /a named pipe/],
    ["a tokenizer of 70 MB", () => ["run", hugeTokenizer(), "-p", "x"], 5, /at most 67108864 bytes/],
    ["a tokenizer that never closes", () => ["run", deepTokenizer(), "-p", "x"], 5, /at most 64 levels/],
    ["a head dimension that is not computed", () => ["run", oddHeads(), "-p", "x"], 1, /a head dimension of 96/],
    ["the same in a plan", () => ["plan", oddHeads()], 1, /a head dimension of 96/],
    [
      "a prompt longer than the context",
      () => ["run", "-p", "word ".repeat(3000), "-c", "1024"],
      2,
      /most 1024 tokens/,
    ],
    ["a prompt of a million letters", () => ["run", "-p", "a".repeat(1e6)], 2, /"a text of 1000000 characters"/],
    ["a context longer than the model's", () => ["run", "-p", "x", "-c", "1m"], 2, /at most 65536 tokens/],
    ["a demo longer than the model's context", () => ["demo", "-c", "1m"], 2, /at most 65536 .* received 1048576/],
    ["K = 0", () => ["demo", "--retrieval-k", "0"], 2, /from 1 to 65536/],
    ["no token to generate", () => ["run", "-p", "x", "-n", "0"], 2, /--max-tokens/],
    ["a negative context", () => ["run", "-p", "x", "-c", "-5"], 2, /--ctx-size/],
    ["a number beyond all numbers", () => ["run", "-p", "x", "--temperature", "1e308"], 2, /--temperature/],
    ["an unknown flag", () => ["demo", "--retrival-k", "5"], 2, /unknown option/i],
    ["an unknown device", () => ["doctor", "--device", "tpu"], 2, /--device/],
    ["an empty prompt", () => ["run", "-p", ""], 2, /at least one character/],
    ["a prompt file that is not there", () => ["run", "-f", join(folder, "absent.txt")], 2, /a readable file/],
    ["a prompt that is not UTF-8", () => ["run", "-f", write(folder, "latin", Uint8Array.of(0xe9))], 2, /UTF-8/],
  ];
  test.each(cases)("%s", async (_, words, code, sentence) => {
    const line = words();
    const before = process.memoryUsage().rss;
    const result = await pariskv(line);
    const sentences = result.notices.trim().split("\n");
    expect(sentences.filter((text) => !text.startsWith("no weight files"))).toHaveLength(1);
    expect(result.notices).toMatch(sentence);
    expect(result.code).toBe(code);
    expect(result.output).toBe("");
    expect(process.memoryUsage().rss - before).toBeLessThan(MOST_GROWTH_BYTES);
  });

  test.each([
    ["PARISKV_CTX_SIZE", "many", 2],
    ["PARISKV_RETRIEVAL_K", "0", 2],
    ["PARISKV_SEED", "-1", 2],
    ["PARISKV_TEMPERATURE", "1e308", 2],
    ["PARISKV_DEVICE", "cuda:100", 2],
    ["PARISKV_STOP", "s".repeat(300), 2],
  ])("%s=%s is refused by its name", async (name, value, code) => {
    vi.stubEnv(name, value);
    const result = await pariskv(["run", "-p", "x"]);
    expect(result.code).toBe(code);
    expect(result.notices).toMatch(new RegExp(`^Expected ${name} to be [^\\n]+\\.\\n$`));
  });

  test("an instruction set that is not there is refused, not replaced", async () => {
    vi.stubEnv("PARISKV_CPU_ISA", "abacus");
    expect(await pariskv(["run", "-p", "x", "-n", "1"])).toMatchObject({ code: 4, output: "" });
  });

  test("weights that are no numbers are the model's fault", async () => {
    const { code, output, notices } = await pariskv(["run", notANumber(), "-p", "x"]);
    expect(code).toBe(5);
    expect(output).toBe("");
    expect(notices).toMatch(/weights that give finite logits but received one that gives none\.\n$/);
  });

  test("a tokenizer that knows more tokens than the model is refused when it gives one", async () => {
    const { code, notices } = await pariskv(["run", foreignTokenizer(), "-p", "the word"]);
    expect(code).toBe(2);
    expect(notices).toMatch(/made of tokens below the model's vocabulary of 16 but received \d+\.\n$/);
  });

  test("a context that does not fit is refused with numbers and a remedy, and never begun", async () => {
    const name = "does-not-fit";
    const path = unreal(name, HUGE);
    write(path, "model.safetensors", tinyWeights({ ...TINY_CONFIG, head_dim: 64, ...HUGE }));
    copyFileSync(join(bundledModelPath(), "tokenizer.json"), join(path, "tokenizer.json"));
    const { code, output, notices } = await pariskv(["run", path, "-p", "x", "-c", "16m"]);
    expect(code).toBe(3);
    expect(output).toBe("");
    expect(notices).toMatch(
      /^--ctx-size \d+ would fit\nExpected the free host memory to be at least \d+ bytes but received \d+ bytes\.\n$/,
    );
    const longest = Number(/--ctx-size (\d+)/.exec(notices)?.[1]);
    const plan = await pariskv(["plan", path, "-c", "16m"]);
    expect(plan.code).toBe(3);
    const planned = Number(/--ctx-size (\d+) would fit/.exec(plan.output)?.[1]);
    // Free memory changes a little from one look to the next.
    expect(Math.abs(planned / longest - 1)).toBeLessThan(0.1);
  });

  test("the largest model that a config can describe is planned, and does not fit", async () => {
    const { code, output } = await pariskv(["plan", unreal("largest", LARGEST), "-c", "16m", "--parallel", "4096"]);
    expect(code).toBe(3);
    expect(output).toMatch(/does not fit: [\d.]+ MiB of [\d.]+ MiB free; fewer sequences \(--parallel\) may fit\n$/);
  });

  test("without --ctx-size the model's maximum is cut to what fits, and one line says so", async () => {
    const path = join(folder, "cut");
    writeRandomModel(path, { ...TINY_CONFIG, head_dim: 64, vocab_size: 4_096, ...HUGE }, "BF16", 1);
    copyFileSync(join(bundledModelPath(), "tokenizer.json"), join(path, "tokenizer.json"));
    const { code, notices } = await pariskv(["run", path, "-p", "x", "-n", "1"]);
    expect(notices).toMatch(/^context: \d+ of the model's 16777216 tokens, which is what fits into free memory\n/);
    expect(code).toBe(0);
  });

  test("a device that is not there is refused with its reason", async (ctx) => {
    const cuda = deviceStatus().find(({ device }) => device === "cuda");
    ctx.skip(cuda?.available === true, "cuda is there");
    const { code, notices } = await pariskv(["demo", "--device", "cuda"]);
    expect(code).toBe(4);
    expect(notices).toMatch(/cuda/);
  });

  test("an interrupt stops loading, reading and answering with exit code 130 and no stack trace", async () => {
    for (const moment of ["", "load", "prefill", "dense attention:"]) {
      const io = fakeIo();
      const running = runCli(["demo", "--ctx-size", "1024"], commandHandlers, io);
      while (!(io.notices() + io.output()).includes(moment)) await new Promise(setImmediate);
      io.interrupt();
      expect(await running, moment).toBe(130);
      expect(io.notices()).not.toMatch(/ at /);
      expect(io.output()).not.toContain("values right");
    }
  });
});

/** The largest numbers that a config may hold: two petabytes of weights, which still count exactly. */
const LARGEST = { hidden_size: 262_144, intermediate_size: 1_048_576, num_hidden_layers: 1_024 };
/** 2^24 tokens of 64 layers and 8 KV heads: a terabyte and more of K and V behind kilobytes of weights. */
const HUGE = {
  max_position_embeddings: 2 ** 24,
  num_hidden_layers: 64,
  num_attention_heads: 8,
  num_key_value_heads: 8,
};
