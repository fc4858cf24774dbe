import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageFolder } from "../model-files/package-folder.js";
import { type CommandIo, type ProgramProcess, processIo } from "./command-io.js";
import { describeFailure, EXIT, exitCodeOf } from "./exit-code.js";
import { type CommandHandlers, createProgram, isCommanderError } from "./program.js";

/**
 * Runs one command line and returns the exit code; nothing is thrown, and one sentence on stderr says what went wrong.
 *
 * @param words the command line without the program's name.
 */
export async function runCli(words: readonly string[], handlers: CommandHandlers, io: CommandIo): Promise<number> {
  const withStack = io.environment.PARISKV_DEBUG === "1";
  let code: number = EXIT.ok;
  try {
    const program = createProgram(packageVersion(), handlers, io, (handlerCode) => {
      code = handlerCode;
    });
    if (words.length === 0) {
      io.writeNotice(program.helpInformation());
      return EXIT.usage;
    }
    await program.parseAsync([...words], { from: "user" });
  } catch (error) {
    if (isCommanderError(error)) {
      if (error.exitCode === 0) return EXIT.ok;
      io.writeNotice(`${usageSentence(error.message)}\n`);
      return EXIT.usage;
    }
    code = exitCodeOf(error);
    // Whoever interrupts knows why it ended.
    if (code !== EXIT.interrupted) io.writeNotice(`${describeFailure(error, withStack)}\n`);
  }
  return io.signal.aborted ? EXIT.interrupted : code;
}

/**
 * Runs the command line of this process: the first interrupt stops the work, a second one ends the program at once.
 */
export async function main(
  handlers: CommandHandlers,
  from: ProgramProcess & Pick<NodeJS.Process, "argv" | "exitCode"> = process,
): Promise<void> {
  const controller = new AbortController();
  from.on("SIGINT", () => {
    if (controller.signal.aborted) from.exit(EXIT.interrupted);
    controller.abort();
  });
  from.exitCode = await runCli(from.argv.slice(2), handlers, processIo(controller.signal, from));
}

/** "error: unknown option '--x'\n(Did you mean --y?)" -> "Unknown option '--x'. (Did you mean --y?)" */
function usageSentence(message: string): string {
  const [first = "", ...rest] = message.replace(/^error: /, "").split("\n");
  const sentence = `${first.charAt(0).toUpperCase()}${first.slice(1)}`.replace(/[^.]$/, "$&.");
  return [sentence, ...rest].join(" ");
}

function packageVersion(): string {
  const text = readFileSync(join(packageFolder(), "package.json"), "utf8");
  return (JSON.parse(text) as { readonly version: string }).version;
}
