import { runCli } from "../../src/cli/run-cli.js";
import { commandHandlers } from "../../src/commands/handlers.js";
import { fakeIo } from "../cli/fake-io.js";

/** Runs a command line with the real commands; `input` is its stdin. */
export async function pariskv(words: readonly string[], input = "") {
  const io = fakeIo({ input });
  const code = await runCli(words, commandHandlers, io);
  return { code, output: io.output(), notices: io.notices() };
}
