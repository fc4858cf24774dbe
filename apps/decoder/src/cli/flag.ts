import { InvalidArgumentError } from "@pariskv/quantizer";

/** One flag of the command line: how it is written, what it means and how its text becomes a value. */
export interface Flag<Value> {
  /** As commander wants it, such as `-c, --ctx-size <tokens>`; without `<…>` the flag is a switch. */
  readonly syntax: string;
  readonly about: string;
  /** The value when neither the command line nor the environment gives one. */
  readonly fallback: Value;
  /** The text of the fallback in the help, when it says more than the value. */
  readonly fallbackText?: string;
  /** Whether the flag may stand several times; its texts then come joined by NUL, which no argument can hold. */
  readonly repeatable?: boolean;
  /**
   * @param name what the user wrote, `--ctx-size` or `PARISKV_CTX_SIZE`: it names the argument in the error.
   * @throws InvalidArgumentError when `text` does not say a value of this flag.
   */
  readonly read: (text: string, name: string) => Value;
}

/** Reads a whole number from `minimum` to `maximum`. */
export function readWholeNumber(minimum: number, maximum: number) {
  return (text: string, name: string): number => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= minimum && value <= maximum) return value;
    throw invalid(name, `a whole number from ${minimum} to ${maximum}`, text);
  };
}

/** Reads a count of tokens, in which `k` stands for 1,024 and `m` for 1,048,576. */
export function readTokens(minimum: number, maximum: number) {
  return (text: string, name: string): number => {
    const [, digits, unit = ""] = /^(\d+)([km]?)$/i.exec(text) ?? [];
    const value = Number(digits ?? Number.NaN) * ({ k: 1_024, m: 1_048_576 }[unit.toLowerCase()] ?? 1);
    if (value >= minimum && value <= maximum) return value;
    throw invalid(name, `a whole number of tokens from ${minimum} to ${maximum}, such as 4096 or 4k`, text);
  };
}

/** Reads several counts of tokens with commas between them. */
export function readTokenList(minimum: number, maximum: number) {
  const readOne = readTokens(minimum, maximum);
  return (text: string, name: string): readonly number[] => text.split(",").map((part) => readOne(part.trim(), name));
}

/** Reads a decimal number from `minimum` to `maximum`. */
export function readNumber(minimum: number, maximum: number) {
  return (text: string, name: string): number => {
    const value = /^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : Number.NaN;
    if (value >= minimum && value <= maximum) return value;
    throw invalid(name, `a number from ${minimum} to ${maximum}`, text);
  };
}

/** Reads one of a few words. */
export function readChoice<Choice extends string>(...choices: readonly Choice[]) {
  return (text: string, name: string): Choice => {
    const choice = choices.find((known) => known === text);
    if (choice === undefined) throw invalid(name, `${choices.slice(0, -1).join(", ")} or ${choices.at(-1)}`, text);
    return choice;
  };
}

/** Reads a text as it is. */
export function readText(text: string): string {
  return text;
}

/** Reads a switch: its environment twin may say `0`, `false`, `no`, `off` or nothing to leave it off. */
export function readSwitch(text: string): boolean {
  return !["", "0", "false", "no", "off"].includes(text.toLowerCase());
}

/** An InvalidArgumentError that shows a number as a number and anything else as a text. */
export function invalid(argument: string, expected: string, text: string): InvalidArgumentError {
  const value = /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
  return new InvalidArgumentError({ argument, expected, received: value });
}
