import { ModelFileError } from "@pariskv/quantizer";

/** What a strict reading allows beyond JSON's own grammar. */
export interface StrictJsonLimits {
  /** The file's path, for the error. */
  readonly path: string;
  /** Where the text begins in the file, in bytes. */
  readonly startBytes: number;
  /** The deepest nesting of objects and arrays. */
  readonly maxDepth: number;
  /** The most strings, numbers, objects and arrays together: bounds the memory of the parsed value. */
  readonly maxValues: number;
  /** Whether a number with sign, point or exponent is refused. */
  readonly wholeNumbersOnly: boolean;
}

/** A value read strictly, and where the keys of its outermost object stand in the file, in bytes. */
export interface StrictJson {
  readonly value: unknown;
  readonly keyOffsetsBytes: ReadonlyMap<string, number>;
}

const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WHOLE_NUMBER = /^(?:0|[1-9]\d*)$/;
const SPACE = /[ \t\n\r]*/y;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/**
 * Parses JSON that comes from a stranger: one pass over the text refuses duplicate keys, `__proto__`, deep nesting and
 * floods of values before `JSON.parse` (which hides the first two and would pay memory for the others) sees it.
 *
 * @throws ModelFileError with the byte offset where it is known.
 */
export function parseStrictJson(text: string, limits: StrictJsonLimits): StrictJson {
  const fail = (index: number, expected: string, received: string, cause?: unknown): ModelFileError => {
    const offsetBytes = limits.startBytes + Buffer.byteLength(text.slice(0, index));
    return new ModelFileError({ path: limits.path, offsetBytes, expected, received, cause });
  };
  const keyIndices = new Map<string, number>();
  // One entry an open object or array: the keys seen so far, null before the first one.
  const open: (Set<string> | null)[] = [];
  let values = 0;
  let index = 0;
  while (index < text.length) {
    const character = text.charCodeAt(index);
    if (character === QUOTE) {
      const end = endOfString(text, index);
      if (end < 0) break;
      values += 1;
      if (isFollowedByColon(text, end)) {
        const key = keyOf(text.slice(index, end));
        // An object pays for its keys when it has some: millions of empty ones are cheap to write.
        const keys = open.length === 0 ? null : (open[open.length - 1] ?? new Set<string>());
        if (open.length > 0) open[open.length - 1] = keys;
        if (key === "__proto__") throw fail(index, "JSON without reserved keys", 'the key "__proto__"');
        if (keys?.has(key)) throw fail(index, "JSON without duplicate keys", `a second ${quoteName(key)}`);
        keys?.add(key);
        if (open.length === 1) keyIndices.set(key, index);
      }
      index = end;
    } else if (character === 0x7b || character === 0x5b) {
      values += 1;
      open.push(null);
      if (open.length > limits.maxDepth) {
        throw fail(index, `JSON of at most ${limits.maxDepth} levels`, "a deeper one");
      }
      index += 1;
    } else if (character === 0x7d || character === 0x5d) {
      open.pop();
      index += 1;
    } else if (character === 0x2d || (character >= 0x30 && character <= 0x39)) {
      values += 1;
      NUMBER.lastIndex = index;
      const number = NUMBER.exec(text)?.[0] ?? "-";
      if (limits.wholeNumbersOnly && !WHOLE_NUMBER.test(number)) {
        throw fail(index, "JSON with whole numbers only", shorten(number));
      }
      index += number.length;
    } else {
      index += 1;
    }
    if (values > limits.maxValues) throw fail(index, `JSON of at most ${limits.maxValues} values`, "more of them");
  }
  const keyOffsetsBytes = offsetsOf(text, keyIndices, limits.startBytes);
  try {
    return { value: JSON.parse(text), keyOffsetsBytes };
  } catch (error) {
    throw fail(0, "well-formed JSON", "text that JSON does not allow", error);
  }
}

/** A name from a file as it may stand in a message: quoted, escaped and at most 80 characters long. */
export function quoteName(name: string): string {
  return JSON.stringify(shorten(name));
}

function shorten(text: string): string {
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
}

/** The index behind the closing quote, or -1 when the text ends first. */
function endOfString(text: string, start: number): number {
  for (let index = start + 1; index < text.length; index += 1) {
    const character = text.charCodeAt(index);
    if (character === BACKSLASH) index += 1;
    else if (character === QUOTE) return index + 1;
  }
  return -1;
}

function isFollowedByColon(text: string, index: number): boolean {
  SPACE.lastIndex = index;
  SPACE.exec(text);
  return text[SPACE.lastIndex] === ":";
}

/** The key that a literal stands for: two spellings of one key are duplicates. */
function keyOf(literal: string): string {
  if (!literal.includes("\\")) return literal.slice(1, -1);
  try {
    return JSON.parse(literal) as string;
  } catch {
    return literal.slice(1, -1); // a bad escape: JSON.parse refuses the whole text later
  }
}

/** Character indices to byte offsets, in one pass: the map's order is the text's. */
function offsetsOf(text: string, indices: ReadonlyMap<string, number>, startBytes: number): Map<string, number> {
  const offsets = new Map<string, number>();
  let index = 0;
  let offsetBytes = startBytes;
  for (const [key, keyIndex] of indices) {
    offsetBytes += Buffer.byteLength(text.slice(index, keyIndex));
    index = keyIndex;
    offsets.set(key, offsetBytes);
  }
  return offsets;
}
