import { describe, expect, it, vi } from "vitest";
import { commandFlags } from "../../src/cli/options.js";
import { COMMANDS, isolateEnvironment, refusal, run } from "./fake-run.js";

isolateEnvironment();

describe("options", () => {
  it("run has the defaults of the contract", async () => {
    const { options, code } = await run(["run", "-p", "hello"]);
    expect(code).toBe(0);
    expect(options).toEqual({
      model: undefined,
      prompt: "hello",
      file: undefined,
      maxTokens: undefined,
      temperature: undefined,
      topK: undefined,
      topP: undefined,
      minP: undefined,
      seed: undefined,
      stop: [],
      ctxSize: 0,
      kvDtype: "auto",
      attention: "auto",
      retrievalK: 100,
      votes: "graded",
      group: "sum",
      device: "auto",
      json: false,
    });
  });

  it("run takes every flag, short or long", async () => {
    const words =
      "run org/name -f book.txt -n 64 --temperature 0.7 --top-k 20 --top-p .9 --min-p 0 --seed 4294967295 --stop a --stop b -c 32k";
    const more =
      "--kv-dtype f32 --attention dense --retrieval-k 65536 --votes tiered --group sum --device cuda:1 --json";
    const { options } = await run([...words.split(" "), ...more.split(" ")]);
    expect(options).toEqual({
      model: "org/name",
      prompt: undefined,
      file: "book.txt",
      maxTokens: 64,
      temperature: 0.7,
      topK: 20,
      topP: 0.9,
      minP: 0,
      seed: 4_294_967_295,
      stop: ["a", "b"],
      ctxSize: 32_768,
      kvDtype: "f32",
      attention: "dense",
      retrievalK: 65_536,
      votes: "tiered",
      group: "sum",
      device: "cuda:1",
      json: true,
    });
  });

  it("a stop string may be a line feed", async () => {
    expect((await run(["run", "-p", "x", "--stop", "\n", "--stop", "a\nb"])).options.stop).toEqual(["\n", "a\nb"]);
  });

  it.each(COMMANDS)("%s runs with --json and with its own options only", async (name) => {
    const prompt = ["run", "compare"].includes(name) ? ["-p", "x"] : [];
    const { calls, code } = await run([name, ...prompt, "--json"]);
    expect(code).toBe(0);
    expect(calls).toHaveLength(1);
    expect(calls[0]?.name).toBe(name);
    const keys = Object.keys(calls[0]?.options ?? {}).filter((key) => key !== "model");
    expect(keys.sort()).toEqual(Object.keys(commandFlags[name]).sort());
    expect(calls[0]?.options.json).toBe(true);
  });

  it("plan, chat, bench and demo have options of their own", async () => {
    expect((await run(["plan", "m", "-c", "1m", "--parallel", "4"])).options).toMatchObject({
      model: "m",
      ctxSize: 2 ** 20,
      parallel: 4,
    });
    expect((await run(["chat", "--system", "Be brief."])).options).toMatchObject({
      model: undefined,
      system: "Be brief.",
    });
    expect((await run(["bench", "--lengths", "4k, 8192"])).options.lengths).toEqual([4_096, 8_192]);
    expect((await run(["bench"])).options.lengths).toEqual([4_096, 32_768, 131_072]);
    expect((await run(["demo"])).options).toMatchObject({ ctxSize: undefined, seed: 0 });
  });
});

describe("environment", () => {
  it("every flag has a twin, and the command line wins over it", async () => {
    vi.stubEnv("PARISKV_RETRIEVAL_K", "7");
    vi.stubEnv("PARISKV_CTX_SIZE", "4k");
    expect((await run(["run", "-p", "x"])).options).toMatchObject({ retrievalK: 7, ctxSize: 4_096 });
    expect((await run(["run", "-p", "x", "--retrieval-k", "9"])).options).toMatchObject({
      retrievalK: 9,
      ctxSize: 4_096,
    });
  });

  it("an error names the variable when the variable is wrong", async () => {
    vi.stubEnv("PARISKV_RETRIEVAL_K", "0");
    expect(await refusal("run", "-p", "x")).toBe(
      "Expected PARISKV_RETRIEVAL_K to be a whole number from 1 to 65536 but received 0.",
    );
  });

  it.each([
    ["1", true],
    ["true", true],
    ["0", false],
    ["false", false],
    ["no", false],
    ["off", false],
    ["", false],
  ])("PARISKV_JSON=%s switches --json to %s", async (value, expected) => {
    vi.stubEnv("PARISKV_JSON", value);
    expect((await run(["doctor"])).options.json).toBe(expected);
  });

  it("a prompt on the command line wins over one in the environment, of either kind", async () => {
    vi.stubEnv("PARISKV_PROMPT", "from the environment");
    expect((await run(["run"])).options.prompt).toBe("from the environment");
    expect((await run(["run", "-f", "x"])).options).toMatchObject({ prompt: undefined, file: "x" });
    vi.stubEnv("PARISKV_FILE", "y");
    expect((await run(["run", "-p", "x"])).options).toMatchObject({ prompt: "x", file: undefined });
    expect(await refusal("run")).toContain("but received");
  });
});
