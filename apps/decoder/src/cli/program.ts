import { InvalidArgumentError } from "@pariskv/quantizer";
import { Command, CommanderError, Option } from "commander";
import type { CommandIo } from "./command-io.js";
import type { Flag } from "./flag.js";
import { type CommandName, type CommandOptions, commandFlags } from "./options.js";

/** What each command does; a handler returns the exit code. */
export type CommandHandlers = {
  readonly [Name in CommandName]: (options: CommandOptions[Name], io: CommandIo) => Promise<number>;
};

interface CommandText {
  readonly about: string;
  readonly takesModel: boolean;
  readonly examples: readonly string[];
}

const TEXTS: Readonly<Record<CommandName, CommandText>> = {
  demo: {
    about: "find hidden values in a long text with the bundled model, with dense attention and with retrieval",
    takesModel: false,
    examples: ["pariskv demo", "pariskv demo --ctx-size 32k --json"],
  },
  run: {
    about: "answer one prompt; stdout is the answer and nothing else",
    takesModel: true,
    examples: ["pariskv run -p 'The sun is' -n 20", "pariskv run ./my-model -f book.txt --ctx-size 128k"],
  },
  chat: { about: "talk with a model", takesModel: true, examples: ["pariskv chat org/name --system 'Be brief.'"] },
  compare: {
    about: "decode one prompt with dense attention and with retrieval, and say where they differ",
    takesModel: true,
    examples: ["pariskv compare -f prompt.txt -n 64"],
  },
  plan: {
    about: "say whether a context fits into memory, from the model's files alone",
    takesModel: true,
    examples: ["pariskv plan org/name -c 128k --parallel 4"],
  },
  doctor: {
    about: "say what this machine offers, what was chosen, and why",
    takesModel: false,
    examples: ["pariskv doctor", "pariskv doctor --json"],
  },
  bench: {
    about: "measure decoding at several context lengths",
    takesModel: true,
    examples: ["pariskv bench --lengths 4k,32k", "pariskv bench ./my-model --json > bench.json"],
  },
};

/** The command line as commander sees it: commands, flags with their environment twins, help with examples. */
export function createProgram(
  version: string,
  handlers: CommandHandlers,
  io: CommandIo,
  done: (code: number) => void,
): Command {
  const program = new Command("pariskv")
    .description("Decode long contexts with retrieval instead of reading every key.")
    .version(version)
    .exitOverride()
    .configureOutput({ writeOut: io.writeOutput, writeErr: () => undefined });
  for (const name of Object.keys(commandFlags) as CommandName[]) addCommand(program, name, handlers, io, done);
  return program;
}

function addCommand<Name extends CommandName>(
  program: Command,
  name: Name,
  handlers: CommandHandlers,
  io: CommandIo,
  done: (code: number) => void,
): void {
  const { about, takesModel, examples } = TEXTS[name];
  const command = program.command(name).description(about);
  if (takesModel) command.argument("[model]", "a model folder or a repository id; without it, the bundled model");
  const flags: Readonly<Record<string, Flag<unknown>>> = commandFlags[name];
  for (const [key, flag] of Object.entries(flags)) command.addOption(optionOf(key, flag));
  command.addHelpText("after", `\nExamples:\n${examples.map((example) => `  ${example}`).join("\n")}`);
  command.action(async (...parameters: unknown[]) => {
    const model = takesModel ? { model: parameters[0] as string | undefined } : {};
    const values = readValues(command, flags, io);
    // The table gives each name the type of its flag, which the loop above cannot show to the compiler.
    const options = { ...model, ...values } as unknown as CommandOptions[Name];
    const handler = handlers[name] as (options: CommandOptions[Name], io: CommandIo) => Promise<number>;
    done(await handler(options, io));
  });
}

/** Texts stay texts inside commander: they are read afterwards, when it is known whether the user wrote a flag or a variable. */
function optionOf(key: string, flag: Flag<unknown>): Option {
  const fallbackText =
    flag.fallbackText ?? (flag.fallback === undefined || flag.fallback === false ? "" : String(flag.fallback));
  const about = fallbackText === "" ? flag.about : `${flag.about} (default: ${fallbackText})`;
  const option = new Option(flag.syntax, about).env(variableOf(key));
  if (flag.repeatable) {
    option.argParser((text: string, earlier: string | undefined) =>
      earlier === undefined ? text : `${earlier}\0${text}`,
    );
  }
  return option;
}

/** `ctxSize` -> `PARISKV_CTX_SIZE`. */
function variableOf(key: string): string {
  return `PARISKV_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

/** `ctxSize` -> `--ctx-size`. */
function longFlagOf(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

function readValues(
  command: Command,
  flags: Readonly<Record<string, Flag<unknown>>>,
  io: CommandIo,
): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  const fromVariable = new Set<string>();
  for (const [key, flag] of Object.entries(flags)) {
    const raw: unknown = command.getOptionValue(key);
    const isVariable = command.getOptionValueSource(key) === "env";
    if (isVariable) fromVariable.add(key);
    // commander takes a switch's variable for true, whatever it says
    const text = typeof raw === "boolean" && isVariable ? (io.environment[variableOf(key)] ?? "") : raw;
    if (text === undefined) values[key] = flag.fallback;
    else values[key] = flag.read(String(text), isVariable ? variableOf(key) : longFlagOf(key));
  }
  if ("prompt" in flags && "file" in flags) requireOnePrompt(values, fromVariable);
  return values;
}

/** The command line wins over the environment; two prompts from the same place are one too many. */
function requireOnePrompt(values: Record<string, unknown>, fromVariable: ReadonlySet<string>): void {
  if (values.prompt !== undefined && values.file !== undefined && fromVariable.size > 0) {
    if (fromVariable.has("prompt") && !fromVariable.has("file")) values.prompt = undefined;
    if (fromVariable.has("file") && !fromVariable.has("prompt")) values.file = undefined;
  }
  const given = ["prompt", "file"].filter((key) => values[key] !== undefined).length;
  if (given === 1) return;
  const received = given === 0 ? "none" : "both";
  throw new InvalidArgumentError({ argument: "the prompt", expected: "given by --prompt or by --file", received });
}

/** Whether commander ended the run, and with what: 0 after help or version, 2 after a mistake in the command line. */
export function isCommanderError(error: unknown): error is CommanderError {
  return error instanceof CommanderError;
}
