import { ParisKVError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { createHaystack, loadHaystack } from "../src/index.js";
import { wordTokenizer } from "./word-tokenizer.js";

describe("haystack", () => {
  it("comes with the package: plain text without a digit, tens of thousands of tokens long", () => {
    const text = loadHaystack().sentences.join("");
    expect(text).toMatch(/^[\x20-\x7e\n]+$/);
    expect(text).not.toMatch(/\d/);
    expect(text).not.toMatch(/ {2}|\n\n|\n | \n/);
    expect(wordTokenizer.encode(text).length).toBeGreaterThan(45_000);
    expect(loadHaystack()).toBe(loadHaystack());
  });

  it("is cut into sentences that begin with a space and a capital and end with a full stop", () => {
    for (const sentence of loadHaystack().sentences) {
      expect(sentence).toMatch(/^ [A-Z]/);
      expect(sentence).toMatch(/\.$/);
      expect(sentence.slice(1)).not.toMatch(/\. [A-Z]/);
    }
  });

  it("has no sentence so long that a run of them cannot fill a small context", () => {
    const tokens = loadHaystack().sentences.map((sentence) => wordTokenizer.encode(sentence).length - 1);
    expect(Math.max(...tokens)).toBeLessThan(256);
  });

  it("closes a text to a ring: what stands before the first sentence start follows the last sentence", () => {
    const { sentences } = createHaystack({ name: "three", text: "A b. C d.\nE f. G h! I j.\n" });
    expect(sentences).toEqual([" C d.\nE f.", " G h! I j.\nA b."]);
  });

  it.each([
    ["nothing", ""],
    ["one sentence", "A b."],
    ["two sentences", "A b. C d."],
    ["a text without a full stop at its end", "A b. C d. E f. G"],
  ])("refuses %s", (_, text) => {
    expect(() => createHaystack({ name: "bad", text })).toThrow(/^Expected text to be at least three sentences/);
    try {
      createHaystack({ name: "bad", text });
    } catch (error) {
      expect(ParisKVError.isInstance(error)).toBe(true);
    }
  });
});
