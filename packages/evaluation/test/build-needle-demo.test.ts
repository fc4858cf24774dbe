import { describe, expect, it } from "vitest";
import { buildNeedleDemo, scoreValues } from "../src/index.js";
import { oracleAnswer } from "./oracle.js";
import { wordTokenizer } from "./word-tokenizer.js";

describe("the needle demonstration", () => {
  it("hides eight needles and asks for four in one answer unless told otherwise", () => {
    const demo = buildNeedleDemo({ tokenizer: wordTokenizer, contextTokens: 8192 });
    expect(demo.facts).toHaveLength(8);
    expect(demo.facts.filter(({ asked }) => asked)).toHaveLength(4);
    expect(demo.values).toHaveLength(4);
    expect(demo.prompt).toMatch(/ Question: What are the special magic numbers for .+, .+, .+ and .+\? Answer:$/);
    expect(demo.promptTokens + demo.answerTokens).toBeLessThanOrEqual(8192);
    expect(demo.promptTokens + demo.answerTokens).toBeGreaterThanOrEqual(0.9 * 8192);
    expect(oracleAnswer(demo.prompt)).toBe(demo.expectedText);
    expect(scoreValues(demo.expectedText, demo).exact).toBe(true);
  });

  it("spreads the needles over the text, away from both ends", () => {
    for (let seed = 0; seed < 20; seed++) {
      const demo = buildNeedleDemo({ tokenizer: wordTokenizer, contextTokens: 4096, needles: 6, seed });
      const depths = demo.facts.map(({ offsetCharacters }) => offsetCharacters / demo.questionOffsetCharacters);
      // Eight parts of equally many sentences; sentences differ in length, hence the margins.
      expect(Math.min(...depths)).toBeGreaterThan(0.04);
      expect(Math.max(...depths)).toBeLessThan(0.96);
      for (let index = 1; index < depths.length; index++) {
        expect((depths[index] as number) - (depths[index - 1] as number)).toBeLessThan(0.5);
      }
    }
  });

  it("is the same text for the same seed", () => {
    const build = (seed: number) => buildNeedleDemo({ tokenizer: wordTokenizer, contextTokens: 2048, seed });
    expect(build(3)).toEqual(build(3));
    expect(build(3).prompt).not.toBe(build(4).prompt);
  });

  it("asks for all needles when there are few", () => {
    const demo = buildNeedleDemo({ tokenizer: wordTokenizer, contextTokens: 1024, needles: 2 });
    expect(demo.values).toHaveLength(2);
  });

  it.each([
    ["one needle", { needles: 1 }, "Expected needles to be a whole number from 2 to 1000 but received 1."],
    [
      "more asked than hidden",
      { needles: 3, askedNeedles: 4 },
      "Expected askedNeedles to be a whole number from 2 to 3",
    ],
    ["more asked than the model can", { needles: 20, askedNeedles: 9 }, "from 2 to 8 but received 9."],
    ["no context", { contextTokens: 0 }, "Expected contextTokens to be a whole number from 1024"],
  ])("refuses %s", (_, wrong, message) => {
    expect(() => buildNeedleDemo({ tokenizer: wordTokenizer, contextTokens: 2048, ...wrong })).toThrow(message);
  });
});
