import { describe, expect, it } from "vitest";
import { drawKeys } from "../src/draw-keys.js";
import { createRandom } from "../src/random.js";
import { ADJECTIVES, NOUNS } from "../src/words.js";

describe("keys", () => {
  it("are made of distinct lower-case words, adjectives apart from nouns", () => {
    const words = [...ADJECTIVES, ...NOUNS];
    expect(ADJECTIVES).toHaveLength(497);
    expect(NOUNS).toHaveLength(1198);
    expect(new Set(words).size).toBe(words.length);
    for (const word of words) expect(word).toMatch(/^[a-z]{3,10}$/);
  });

  it("are an adjective and a noun each, and none is drawn twice", () => {
    const random = createRandom("keys");
    const taken = new Set<string>();
    const keys = Array.from({ length: 20 }, () => drawKeys(random, 50, taken)).flat();
    expect(new Set(keys).size).toBe(1000);
    expect(taken).toEqual(new Set(keys));
    for (const key of keys) {
      const [adjective = "", noun = "", ...rest] = key.split(" ");
      expect(ADJECTIVES).toContain(adjective);
      expect(NOUNS).toContain(noun);
      expect(rest).toEqual([]);
    }
  });

  it("share their words in two of five draws, so that one word does not tell keys apart", () => {
    const random = createRandom("few words");
    const draws = 500;
    let shared = 0;
    for (let draw = 0; draw < draws; draw++) {
      const adjectives = drawKeys(random, 40, new Set()).map((key) => key.split(" ")[0]);
      // 12 adjectives when few, about 38 of 40 otherwise.
      if (new Set(adjectives).size <= 12) shared++;
    }
    // Standard deviation √(500 · .4 · .6) = 11: five of them.
    expect(Math.abs(shared - 200)).toBeLessThan(55);
  });

  it("run out with an error, not in a loop without end", () => {
    expect(drawKeys(createRandom("all"), 100_000, new Set())).toHaveLength(100_000);
    expect(() => drawKeys(createRandom("all"), 297_704, new Set())).toThrow(
      "Expected the number of keys to be at most 297703 but received 297704.",
    );
  });
});
