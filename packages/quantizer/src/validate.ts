import { InvalidArgumentError } from "./errors.js";

/** Throws unless `value` is a whole number from `least` to `most`. */
export function requireInteger(argument: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new InvalidArgumentError({
      argument,
      expected: `a whole number from ${least} to ${most}`,
      received: value,
    });
  }
}

/** Throws unless `array` holds at least `count` elements. */
export function requireLength(argument: string, array: { readonly length: number }, count: number): void {
  if (!(array.length >= count)) {
    throw new InvalidArgumentError({ argument, expected: `at least ${count} elements long`, received: array });
  }
}

/** Throws unless `value` is one of `choices`. */
export function requireOneOf<T extends number | string>(argument: string, value: T, choices: readonly T[]): void {
  if (!choices.includes(value)) {
    throw new InvalidArgumentError({ argument, expected: `one of ${choices.join(", ")}`, received: value });
  }
}

/** Throws unless `value` is a share: above 0, at most 1. */
export function requireShare(argument: string, value: number): void {
  if (!(value > 0 && value <= 1)) {
    throw new InvalidArgumentError({ argument, expected: "a number above 0 and at most 1", received: value });
  }
}
