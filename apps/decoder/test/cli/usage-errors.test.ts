import { describe, expect, it } from "vitest";
import { commandFlags } from "../../src/cli/options.js";
import { COMMANDS, isolateEnvironment, refusal, run } from "./fake-run.js";

isolateEnvironment();

describe("usage errors", () => {
  it("--retrieval-k 0 is refused in the project's form", async () => {
    expect(await refusal("run", "-p", "x", "--retrieval-k", "0")).toBe(
      "Expected --retrieval-k to be a whole number from 1 to 65536 but received 0.",
    );
  });

  it.each([
    ["--retrieval-k", "65537"],
    ["--retrieval-k", "-1"],
    ["--retrieval-k", "1.5"],
    ["--retrieval-k", "1e3"],
    ["--retrieval-k", "abc"],
    ["--retrieval-k", ""],
    ["--retrieval-k", "99999999999999999999"],
    ["--ctx-size", "-1"],
    ["--ctx-size", "4g"],
    ["--ctx-size", "16777217"],
    ["--ctx-size", "17m"],
    ["--max-tokens", "0"],
    ["--max-tokens", "many"],
    ["--temperature", "-0.1"],
    ["--temperature", "101"],
    ["--temperature", "NaN"],
    ["--temperature", "Infinity"],
    ["--temperature", "1e308"],
    ["--temperature", "warm"],
    ["--top-k", "-1"],
    ["--top-k", "4194305"],
    ["--top-p", "1.01"],
    ["--top-p", "0x1"],
    ["--min-p", "2"],
    ["--seed", "4294967296"],
    ["--seed", "-7"],
    ["--stop", ""],
    ["--stop", "x".repeat(257)],
    ["--kv-dtype", "int8"],
    ["--attention", "sparse"],
    ["--votes", "Graded"],
    ["--group", "median"],
    ["--device", "gpu"],
    ["--device", "cuda:"],
    ["--device", "cuda:999"],
  ])("%s %j is refused by name", async (name, value) => {
    expect(await refusal("run", "-p", "x", name, value)).toMatch(
      new RegExp(`^Expected ${name} to be .* but received .*\\.$`),
    );
  });

  it.each([
    ["plan", "--parallel", "0"],
    ["plan", "--parallel", "4097"],
    ["bench", "--lengths", ""],
    ["bench", "--lengths", "4k,,8k"],
    ["bench", "--lengths", "4k,1023"],
    ["demo", "--ctx-size", "1000"],
  ])("%s %s %j is refused by name", async (command, name, value) => {
    expect(await refusal(command, name, value)).toContain(`Expected ${name} to be`);
  });

  it("17 stop strings are refused", async () => {
    const stops = Array.from({ length: 17 }, () => ["--stop", "x"]).flat();
    expect(await refusal("run", "-p", "x", ...stops)).toBe(
      "Expected --stop to be given at most 16 times but received 17.",
    );
  });

  it("no prompt and two prompts are refused", async () => {
    expect(await refusal("run")).toBe('Expected the prompt to be given by --prompt or by --file but received "none".');
    expect(await refusal("compare", "-p", "x", "-f", "y")).toContain('"both"');
  });

  it("an unknown flag, command or argument and a missing value are refused in one sentence", async () => {
    expect(await refusal("run", "--frobnicate")).toBe("Unknown option '--frobnicate'.");
    expect(await refusal("run", "-p", "x", "--retreival-k", "3")).toBe(
      "Unknown option '--retreival-k'. (Did you mean --retrieval-k?)",
    );
    expect(await refusal("demo", "--temperature", "1")).toContain("Unknown option '--temperature'");
    expect(await refusal("rnu")).toBe("Unknown command 'rnu'. (Did you mean run?)");
    expect(await refusal("doctor", "me")).toContain("Too many arguments");
    expect(await refusal("run", "a", "b", "-p", "x")).toContain("Too many arguments");
    expect(await refusal("run", "-p")).toContain("argument missing");
  });
});

describe("help", () => {
  it("the program's help and version go to stdout with exit code 0", async () => {
    const help = await run(["--help"]);
    expect(help).toMatchObject({ code: 0, notices: "" });
    for (const name of COMMANDS) expect(help.output).toContain(`  ${name} `);
    const version = await run(["--version"]);
    expect(version.code).toBe(0);
    expect(version.output).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it.each(COMMANDS)("%s --help names each flag, its variable and an example", async (name) => {
    const { code, output, calls } = await run([name, "--help"]);
    expect(code).toBe(0);
    expect(calls).toEqual([]);
    expect(output).toContain(`Examples:\n  pariskv ${name}`);
    for (const { syntax } of Object.values(commandFlags[name])) expect(output).toContain(syntax);
    expect(output).toContain("PARISKV_JSON");
  });

  it("no command at all shows the help on stderr with exit code 2", async () => {
    const { code, output, notices } = await run([]);
    expect(code).toBe(2);
    expect(output).toBe("");
    expect(notices).toContain("Usage: pariskv");
  });
});
