import { readFileSync } from "node:fs";
import { join } from "node:path";
import { InvalidArgumentError, ModelFileError, UnsupportedError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { bundledModelPath } from "../../src/model-files/bundled-model.js";
import { TextTokenizer } from "../../src/text/tokenizer.js";
import { temporaryFolder, write } from "../model-files/temporary-folder.js";

const folder = temporaryFolder();
const tokenizer = TextTokenizer.open(bundledModelPath());
const BUNDLED = JSON.parse(readFileSync(join(bundledModelPath(), "tokenizer.json"), "utf8")) as {
  added_tokens: object[];
  model: { vocab: Record<string, number>; merges: unknown[] };
  pre_tokenizer: { pretokenizers: object[] };
};

describe("encode", () => {
  it.each([
    [" 8191920.", [35, 59, 52, 60, 52, 60, 53, 51, 49]],
    [" planner.", [3731, 49]],
    [" 0b8344df-db0c.", [35, 51, 101, 59, 54, 55, 55, 103, 105, 1276, 101, 51, 102, 49]],
    [" = 88590.", [3220, 35, 59, 59, 56, 60, 51, 49]],
  ])("gives the ids that transformers recorded for %j", (text, ids) => {
    expect([...tokenizer.encode(text, { addSpecialTokens: false })]).toEqual(ids);
    expect([...tokenizer.encode(text)]).toEqual([0, ...ids]);
  });

  it("gives the first token alone for an empty text, or nothing", () => {
    expect([...tokenizer.encode("")]).toEqual([0]);
    expect([...tokenizer.encode("", { addSpecialTokens: false })]).toEqual([]);
  });

  it("takes special tokens that are written out for special tokens", () => {
    expect([...tokenizer.encode("<|eos|>a<|bos|>", { addSpecialTokens: false })]).toEqual([
      1,
      tokenizer.tokenId("a"),
      0,
    ]);
  });

  // Each of these would hit the time limit of 2 s and 20 µs a character if its cost were quadratic.
  it.each([
    ["letters in one word", "a".repeat(100_000)],
    ["spaces", " ".repeat(100_000)],
    ["spaces and a letter", `${" ".repeat(100_000)}x`],
    ["line feeds", "\n".repeat(100_000)],
    ["different words", Array.from({ length: 40_000 }, (_, index) => `w${index.toString(26)}`).join(" ")],
    // Behind the words, which fill the cache of pieces: the same digit is looked up in it again and again.
    ["one digit", "7".repeat(400_000)],
    ["Chinese characters", "漢字".repeat(25_000)],
    ["beginnings of a special token", "<|".repeat(50_000)],
  ])("takes a long run of %s in linear time and gives it back", (_, text) => {
    expect(tokenizer.decode(tokenizer.encode(text)) === text).toBe(true);
  });
});

describe("encodeAtMost", () => {
  it("equals encode for what fits, and for what is a little too long", () => {
    // More than 8 characters a token: looked at in pieces.
    const text = " information".repeat(12_000);
    const ids = tokenizer.encode(text);
    expect(text.length / ids.length).toBeGreaterThan(8);
    for (const maxTokens of [2 ** 20, ids.length, ids.length - 1]) {
      expect(tokenizer.encodeAtMost(text, maxTokens)).toEqual(ids);
    }
    expect(tokenizer.encodeAtMost("", 1)).toEqual(tokenizer.encode(""));
    expect(tokenizer.encodeAtMost("a", 9, { addSpecialTokens: false })).toHaveLength(1);
  });

  it("gives up a text that is far too long at the cost of what would fit", () => {
    // 100 million characters take minutes and gigabytes to encode.
    expect(tokenizer.encodeAtMost("a".repeat(100_000_000), 4_096)).toBeUndefined();
    expect(tokenizer.encodeAtMost(" lorem ipsum dolor".repeat(5_000_000), 4_096)).toBeUndefined();
  });
});

describe("decode", () => {
  it("gives back the text of every plane, and U+FFFD for half a character", () => {
    for (const text of ["naïve", "日本語", "🙂👩‍👩‍👧", "\u{10FFFF}", "\uFEFFx", "a\0b", "\r\n\t", "עברית"]) {
      expect(tokenizer.decode(tokenizer.encode(text)), text).toBe(text);
    }
    expect(tokenizer.decode(tokenizer.encode("a\ud800b"))).toBe("a\uFFFDb");
    const [, ...halves] = tokenizer.encode("🙂");
    expect(tokenizer.decode(halves.slice(0, 1))).toBe("\uFFFD");
  });

  it("leaves spaces before punctuation as the model wrote them", () => {
    expect(tokenizer.decode(tokenizer.encode(" do n't , he said ."))).toBe(" do n't , he said .");
  });

  it("leaves special tokens out unless asked for them", () => {
    const ids = tokenizer.encode("a<|eos|>");
    expect(tokenizer.decode(ids)).toBe("a");
    expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe("<|bos|>a<|eos|>");
  });

  it("gives nothing for no token and for ids outside the vocabulary, and refuses what is no id", () => {
    expect(tokenizer.decode([])).toBe("");
    expect(tokenizer.decode([100_000])).toBe("");
    for (const id of [-1, 0.5, Number.NaN]) expect(() => tokenizer.decode([id])).toThrow(InvalidArgumentError);
  });
});

describe("stream", () => {
  it("gives out a character when its last byte has come", () => {
    const stream = tokenizer.stream();
    const pieces = [...tokenizer.encode("é🙂!", { addSpecialTokens: false })].map((id) => stream.push(id));
    expect(pieces.join("")).toBe("é🙂!");
    expect(pieces.filter((piece) => piece !== "").every((piece) => !piece.includes("\uFFFD"))).toBe(true);
    expect(pieces).toContain("");
    expect(stream.end()).toBe("");
  });

  it("gives out an unfinished character as U+FFFD at the end, and can begin anew", () => {
    const stream = tokenizer.stream();
    const [first = 0] = tokenizer.encode("🙂", { addSpecialTokens: false });
    expect(stream.push(first)).toBe("");
    expect(stream.end()).toBe("\uFFFD");
    expect(stream.push(tokenizer.tokenId("a") ?? -1)).toBe("a");
  });

  it("does not hold bytes back that can never become a character", () => {
    const stream = tokenizer.stream();
    const broken = tokenizer.tokenId("\u00ff") ?? -1; // the symbol of byte 0xff, which UTF-8 does not know
    const text = Array.from({ length: 8 }, () => stream.push(broken)).join("");
    expect(text.length).toBeGreaterThan(0);
    expect(text + stream.end()).toBe("\uFFFD".repeat(8));
  });
});

/** A place in the bundled tokenizer.json and what to put there: `+` at the end appends, undefined removes. */
type Edit = readonly [path: string, value: unknown];

function edited(...edits: readonly Edit[]): string {
  const file = structuredClone(BUNDLED) as Record<string, unknown>;
  for (const [path, value] of edits) {
    const keys = path.split(".");
    const last = keys.pop() ?? "";
    const place = keys.reduce<Record<string, unknown>>((outer, key) => outer[key] as Record<string, unknown>, file);
    if (last === "+") (place as unknown as unknown[]).push(value);
    else if (value === undefined) Reflect.deleteProperty(place, last);
    else place[last] = value;
  }
  return JSON.stringify(file);
}

describe("open", () => {
  const open = (text: string): TextTokenizer => {
    write(folder, "tokenizer.json", text);
    return TextTokenizer.open(folder);
  };
  const added = (id: unknown, content: unknown): Edit => ["added_tokens.+", { id, content }];
  const split = (pattern: string) => ({
    type: "Split",
    pattern: { Regex: pattern },
    behavior: "Isolated",
    invert: false,
  });

  it("needs no tokenizer_config.json", () => {
    expect([...open(edited()).encode(" planner.")]).toEqual([0, 3731, 49]);
  });

  it("reads merges as pairs, as newer files have them", () => {
    const pairs = BUNDLED.model.merges.map((merge) => (typeof merge === "string" ? merge.split(" ") : merge));
    expect([...open(edited(["model.merges", pairs])).encode(" planner.")]).toEqual([0, 3731, 49]);
  });

  it.each([
    ["an empty object", "{}"],
    ["a list", "[]"],
    ["text that is no JSON", "{model"],
    ["a duplicate key", '{"model":{},"model":{}}'],
    ["a deep nesting", "[".repeat(100_000)],
    ["no model", edited(["model", undefined])],
    ["a model that is a text", edited(["model", "BPE"])],
    ["no vocabulary", edited(["model.vocab", undefined])],
    ["a vocabulary that is a list", edited(["model.vocab", []])],
    ["an empty vocabulary", edited(["model.vocab", {}])],
    ["a text for an id", edited(["model.vocab.a", "7"])],
    ["an id of -1", edited(["model.vocab.a", -1])],
    ["an id of 0.5", edited(["model.vocab.a", 0.5])],
    ["an id of 2^31", edited(["model.vocab.a", 2 ** 31])],
    ["an id used twice", edited(["model.vocab.b", BUNDLED.model.vocab.a])],
    ["no merges", edited(["model.merges", undefined])],
    ["merges that are a text", edited(["model.merges", "a b"])],
    ["a merge of one part", edited(["model.merges.+", "abc"])],
    ["a merge of three parts", edited(["model.merges.+", "a b c"])],
    ["a merge of an unknown part", edited(["model.merges.+", "a \u4e00"])],
    ["a merge into an unknown token", edited(["model.merges.+", "\u00ff \u00ff"])],
    ["a merge that is null", edited(["model.merges.+", null])],
    ["a vocabulary without the symbol of a byte", edited(["model.vocab.\u00ff", undefined])],
    ["added tokens that are an object", edited(["added_tokens", {}])],
    ["an added token without content", edited(added(5_000, undefined))],
    ["an added token with an empty content", edited(added(5_000, ""))],
    ["an added token with a negative id", edited(added(-1, "x!"))],
    ["an added token with an id in use", edited(added(100, "x!"))],
    ["an added token twice", edited(added(5_000, "x!"), added(5_001, "x!"))],
    ["two added tokens with one id", edited(added(5_000, "x!"), added(5_000, "y!"))],
    ["a pattern that is no pattern", edited(["pre_tokenizer.pretokenizers.0", split("(")])],
    ["a pre-tokenizer that nobody knows", edited(["pre_tokenizer", { type: "Guess" }])],
    ["a decoder that nobody knows", edited(["decoder", { type: "Guess" }])],
    ["no post-processor", edited(["post_processor", undefined])],
  ])("refuses %s as a malformed file", (_, text) => {
    expect(() => open(text)).toThrow(ModelFileError);
    expect(() => open(text)).toThrow(/^Expected [^\n]{1,500} but received [^\n]{1,500}\.$/);
  });

  it("refuses models that are not byte-pair encoding by name", () => {
    const unigram = edited(["model", { type: "Unigram", vocab: [] }]);
    expect(() => open(unigram)).toThrow(UnsupportedError);
    expect(() => open(unigram)).toThrow('type "Unigram"');
  });

  it("stops a pattern that would take for ever", () => {
    const slow = open(edited(["pre_tokenizer.pretokenizers.0", split("(a+)+$")]));
    expect(() => slow.encode(`${"a".repeat(64)}b`)).toThrow("a tokenizer whose patterns take too long");
    expect([...slow.encode("ab")].length).toBeGreaterThan(1);
  });

  it("blames the file when the library fails later, on a text", () => {
    const broken = open(edited(["post_processor", { type: "TemplateProcessing" }]));
    expect(() => broken.encode("a")).toThrow(ModelFileError);
    expect(() => broken.encode("a")).toThrow(/tokenizer\.json to be a complete tokenizer but received a file that/);
  });

  it("says that the file is missing", () => {
    expect(() => TextTokenizer.open(join(folder, "none"))).toThrow(
      /tokenizer.json to be a readable file but received nothing by that name/,
    );
  });
});
