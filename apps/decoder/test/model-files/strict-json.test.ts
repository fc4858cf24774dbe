import { ModelFileError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { decodeStrictly, readJsonObject, readTextFile } from "../../src/model-files/json-file.js";
import { parseStrictJson, quoteName } from "../../src/model-files/strict-json.js";
import { temporaryFolder, write } from "./temporary-folder.js";

const folder = temporaryFolder();
const LIMITS = { path: "file", startBytes: 100, maxDepth: 4, maxValues: 50, wholeNumbersOnly: false };

function parse(text: string, limits: Partial<typeof LIMITS> = {}) {
  return parseStrictJson(text, { ...LIMITS, ...limits });
}

describe("parseStrictJson", () => {
  it("reads millions of empty objects without paying for their keys", () => {
    const text = `[${"{},".repeat(2_000_000)}{}]`;
    const limits = { maxValues: 4_000_000 };
    const before = process.memoryUsage().rss;
    expect(parse(text, limits).value).toHaveLength(2_000_001);
    // A set for each would take half a gigabyte.
    expect(process.memoryUsage().rss - before).toBeLessThan(350e6);
  });

  it.each([
    '{"a":1,"b":{"a":2},"c":[{"a":3},{"a":4}]}',
    '{"a":"a","b":["a","a"],"c":"b"}',
    '{"\\"":1,"\\\\":2,"a:b":": {"}',
    '{"a" :-1.5e+3 , "b"\n:\t[true,false,null]}',
    '"text"',
    "[1,2,3]",
    "17",
  ])("gives what JSON.parse gives for %s", (text) => {
    expect(parse(text).value).toEqual(JSON.parse(text));
  });

  it.each([
    ["{", "well-formed"],
    ["", "well-formed"],
    ['{"a":1,"a":1}', "duplicate"],
    ['{"b":{"a":1,"c":2,"a":1}}', "duplicate"],
    ['[{"a":1},{"a":1,"a":2}]', "duplicate"],
    ['{"a":1,"\\u0061":1}', "duplicate"],
    ['{"b":{"__proto__":1}}', "reserved"],
    ["[[[[[1]]]]]", "at most 4 levels"],
    [`[${"1,".repeat(60)}1]`, "at most 50 values"],
    [`[${'"x",'.repeat(60)}1]`, "at most 50 values"],
    [`[${"[],".repeat(60)}1]`, "at most 50 values"],
    ['{"a":-}', "well-formed"],
    ["01", "well-formed"],
  ])("refuses %s", (text, says) => {
    expect(() => parse(text)).toThrow(says);
    expect(() => parse(text)).toThrow(ModelFileError);
  });

  it("says where outer keys stand, in bytes behind the start", () => {
    const { keyOffsetsBytes } = parse('{"é":1, "b":{"c":2}}');
    expect([...keyOffsetsBytes]).toEqual([
      ["é", 101],
      ["b", 109],
    ]);
  });

  it("reads at its limits of depth and values", () => {
    expect(parse("[[[[1]]]]").value).toEqual([[[[1]]]]);
    expect(parse(`[${"1,".repeat(48)}1]`).value).toHaveLength(49);
  });

  it("with whole numbers only, refuses other numbers but not texts that look like them", () => {
    for (const text of ["[1.5]", "[-1]", "[1e3]", "[-0]", "[01]"]) {
      expect(() => parse(text, { wholeNumbersOnly: true }), text).toThrow("whole numbers only");
    }
    expect(parse('{"-1.5":"-1e3","a":12}', { wholeNumbersOnly: true }).value).toEqual({ "-1.5": "-1e3", a: 12 });
  });
});

it("quoteName escapes what could break a terminal and shortens what is long", () => {
  expect(quoteName('a"\u001b\n')).toBe('"a\\"\\u001b\\n"');
  expect(quoteName("x".repeat(1_000))).toHaveLength(82);
});

describe("readTextFile and readJsonObject", () => {
  it("read a file of the largest size and refuse one byte more", () => {
    const path = write(folder, "text", "x".repeat(10));
    expect(readTextFile(path, 10)).toHaveLength(10);
    expect(() => readTextFile(path, 9)).toThrow("a file of at most 9 bytes but received 10 bytes");
  });

  it("refuse what is no JSON object", () => {
    for (const text of ["[]", "1", "null", '"x"', "{"]) {
      expect(() => readJsonObject(write(folder, "json", text), 100), text).toThrow(ModelFileError);
    }
  });

  it("refuse bytes that are not UTF-8", () => {
    expect(() => decodeStrictly(Uint8Array.of(0xc3), "file", 3)).toThrow("Expected file at byte 3 to be UTF-8 text");
  });
});
