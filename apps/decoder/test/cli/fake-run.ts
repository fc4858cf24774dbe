import { afterEach, beforeEach, expect, vi } from "vitest";
import { type CommandName, commandFlags } from "../../src/cli/options.js";
import type { CommandHandlers } from "../../src/cli/program.js";
import { runCli } from "../../src/cli/run-cli.js";
import { type FakeIo, fakeIo } from "./fake-io.js";

/** What a fake command does; it gives the exit code. */
export type Action = (io: FakeIo) => Promise<number> | number;
/** The names of all commands. */
export const COMMANDS = Object.keys(commandFlags) as CommandName[];

/** Keeps the tester's own `PARISKV_…` variables out of a file's tests, and each test's out of the next. */
export function isolateEnvironment(): void {
  beforeEach(() => {
    for (const name of Object.keys(process.env)) if (name.startsWith("PARISKV_")) vi.stubEnv(name, undefined);
  });
  afterEach(() => vi.unstubAllEnvs());
}

/** Runs a command line with fakes for all commands; `calls` has each command that ran and its options. */
export async function run(words: readonly string[], action: Action = () => 0) {
  const io = fakeIo();
  const calls: { name: CommandName; options: Record<string, unknown> }[] = [];
  const handler = (name: CommandName) => async (options: object) => {
    calls.push({ name, options: options as Record<string, unknown> });
    return action(io);
  };
  const handlers = Object.fromEntries(COMMANDS.map((name) => [name, handler(name)])) as unknown as CommandHandlers;
  const code = await runCli(words, handlers, io);
  return { code, calls, options: calls[0]?.options ?? {}, output: io.output(), notices: io.notices() };
}

/** Runs a command line that must be refused: exit code 2, one sentence, no command run. */
export async function refusal(...words: string[]): Promise<string> {
  const { code, calls, output, notices } = await run(words);
  expect(code).toBe(2);
  expect(calls).toEqual([]);
  expect(output).toBe("");
  expect(notices).toMatch(/^[A-Z][^\n]+\n$/);
  return notices.trimEnd();
}
