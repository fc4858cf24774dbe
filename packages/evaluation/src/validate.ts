import { InvalidArgumentError } from "@pariskv/quantizer";

/**
 * Returns `value` when it is a whole number within the bounds, both included.
 *
 * @throws InvalidArgumentError when it is not.
 */
export function wholeNumber(argument: string, value: number, lowest: number, highest: number): number {
  if (!Number.isInteger(value) || value < lowest || value > highest) {
    throw new InvalidArgumentError({
      argument,
      expected: `a whole number from ${lowest} to ${highest}`,
      received: value,
    });
  }
  return value;
}

/** Fewest tokens of a prompt and its answer: below, the facts of some tasks no longer fit. */
export const MIN_CONTEXT_TOKENS = 1024;

/** Most tokens of a prompt and its answer. */
export const MAX_CONTEXT_TOKENS = 2 ** 20;

/** Returns `contextTokens` when a sample can be built for it; throws InvalidArgumentError when not. */
export const validContextTokens = (contextTokens: number): number =>
  wholeNumber("contextTokens", contextTokens, MIN_CONTEXT_TOKENS, MAX_CONTEXT_TOKENS);

/** Returns `seed` when it is a safe whole number, 0 or more; throws InvalidArgumentError when not. */
export const validSeed = (seed: number): number => wholeNumber("seed", seed, 0, Number.MAX_SAFE_INTEGER);
