import { ModelFileError } from "@pariskv/quantizer";
import { z } from "zod";
import { quoteName } from "./strict-json.js";

/** A whole number from `minimum` to `maximum`. */
export function wholeNumber(minimum: number, maximum: number) {
  const expected = `a whole number from ${minimum} to ${maximum}`;
  return z.number(expected).int(expected).min(minimum, expected).max(maximum, expected);
}

/** A number from `minimum` to `maximum`. */
export function boundedNumber(minimum: number, maximum: number) {
  const expected = `a number from ${minimum} to ${maximum}`;
  return z.number(expected).min(minimum, expected).max(maximum, expected);
}

/** True or false. */
export function flag() {
  return z.boolean("true or false");
}

/** A text of at most `maximum` characters. */
export function text(maximum: number) {
  const expected = `a text of at most ${maximum} characters`;
  return z.string(expected).max(maximum, expected);
}

/** One token id or a list of up to 64. */
export function tokenIds() {
  const id = wholeNumber(0, 2 ** 31 - 1);
  return z.union([id, z.array(id).max(64)], "a token id from 0 to 2147483647 or up to 64 of them");
}

/**
 * Checks `value` against `schema`; each message of the schema is the noun phrase of what was expected.
 *
 * @throws ModelFileError that names the file and the first field that is wrong.
 */
export function parseFields<Schema extends z.ZodType>(schema: Schema, value: unknown, path: string): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const fieldPath = issue?.path ?? [];
  throw new ModelFileError({
    path,
    expected: `a file whose ${fieldPath.length === 0 ? "content" : fieldPath.join(".")} is ${issue?.message ?? "valid"}`,
    received: describeField(fieldPath.reduce<unknown>(fieldOf, value)),
  });
}

function fieldOf(value: unknown, key: PropertyKey): unknown {
  return typeof value === "object" && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined;
}

function describeField(value: unknown): string {
  if (value === undefined) return "none";
  if (typeof value === "string") return quoteName(value);
  if (Array.isArray(value)) return `a list of ${value.length}`;
  return typeof value === "object" && value !== null ? "an object" : String(value);
}
