import fc from "fast-check";
import { expect, it } from "vitest";
import { bundledModelPath } from "../../src/model-files/bundled-model.js";
import { TextTokenizer } from "../../src/text/tokenizer.js";

const SEED = 40_960;
console.info(`tokenizer properties: seed ${SEED}`);
const tokenizer = TextTokenizer.open(bundledModelPath());

// Whole characters of all planes, and texts of words, digits and spaces: what patterns stumble over.
const texts = fc.oneof(
  fc.string({ unit: "binary", maxLength: 60 }),
  fc.string({ unit: "grapheme", maxLength: 30 }),
  fc
    .array(fc.constantFrom("a", "The", " ", "  ", "\n", "\r\n", "\t", "7", "'s", "’", "é", "漢", "🙂", ".", "<|"), {
      maxLength: 40,
    })
    .map((parts) => parts.join("")),
);

it("decoding an encoded text gives the text", () => {
  fc.assert(
    fc.property(texts, (text) => {
      expect(tokenizer.decode(tokenizer.encode(text), { skipSpecialTokens: true })).toBe(text);
    }),
    { numRuns: 3_000, seed: SEED },
  );
});

it("half surrogate pairs become U+FFFD and nothing else changes", () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 0xffff }), { maxLength: 30 }), (units) => {
      const text = String.fromCharCode(...units);
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(Buffer.from(text).toString());
    }),
    { numRuns: 2_000, seed: SEED },
  );
});

it("the pieces of a stream together equal the text of all tokens, whatever the tokens", () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 4_095 }), { maxLength: 60 }), (ids) => {
      const stream = tokenizer.stream();
      const pieces = ids.map((id) => stream.push(id));
      expect(pieces.join("") + stream.end()).toBe(tokenizer.decode(ids));
    }),
    { numRuns: 2_000, seed: SEED },
  );
});

it("the pieces of a stream of honest text never hold U+FFFD", () => {
  fc.assert(
    fc.property(
      texts.filter((text) => !text.includes("\uFFFD")),
      (text) => {
        const stream = tokenizer.stream();
        for (const id of tokenizer.encode(text)) expect(stream.push(id)).not.toContain("\uFFFD");
        expect(stream.end()).toBe("");
      },
    ),
    { numRuns: 1_000, seed: SEED },
  );
});
