import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import {
  buildSample,
  createHaystack,
  GENERATOR_NAME,
  type Sample,
  scoreValues,
  TASKS,
  type TextTokenizer,
} from "../src/index.js";
import { oracleAnswer } from "./oracle.js";
import { wordTokenizer } from "./word-tokenizer.js";

const SEEDS = [0, 1, 2, 3];
const LENGTHS = [1024, 4096, 16384];
const build = (task: (typeof TASKS)[number], contextTokens: number, seed: number): Sample =>
  buildSample({ task, contextTokens, seed, tokenizer: wordTokenizer });
const occurrences = (text: string, part: string): number => text.split(part).length - 1;

describe.each(TASKS)("a sample of %s", (task) => {
  const samples = LENGTHS.flatMap((contextTokens) => SEEDS.map((seed) => build(task, contextTokens, seed)));

  it("is the same text for the same seed and another for another", () => {
    const [first, second] = samples as [Sample, Sample];
    expect(build(task, first.contextTokens, first.seed)).toEqual(first);
    expect(second.prompt).not.toBe(first.prompt);
  });

  it("fits its length with its answer, and fills nine tenths of it", () => {
    for (const { prompt, expectedText, contextTokens, promptTokens, answerTokens } of samples) {
      expect(promptTokens).toBe(wordTokenizer.encode(prompt).length);
      // The beginning token of the answer alone stands for the end token.
      expect(answerTokens).toBe(wordTokenizer.encode(expectedText).length);
      expect(promptTokens + answerTokens).toBeLessThanOrEqual(contextTokens);
      expect(promptTokens + answerTokens).toBeGreaterThanOrEqual(0.9 * contextTokens);
    }
  });

  it("is one text of single spaces that ends where the model takes over", () => {
    for (const { prompt, questionOffsetCharacters } of samples) {
      expect(prompt).toMatch(/^ [A-Z]/);
      expect(prompt).not.toMatch(/ {2}|\n\n|\n | $/);
      expect(prompt.slice(questionOffsetCharacters)).toMatch(/^ Question: .+ Answer:/);
      expect(occurrences(prompt, " Question: ")).toBe(1);
    }
  });

  it("says where each fact stands: at a sentence start", () => {
    for (const { prompt, facts } of samples) {
      for (const { text, offsetCharacters } of facts) {
        expect(prompt.startsWith(text, offsetCharacters)).toBe(true);
        expect(offsetCharacters === 0 || prompt[offsetCharacters - 1] === ".").toBe(true);
      }
    }
  });

  it("says where each value stands in the answer", () => {
    for (const { expectedText, values, valueRanges } of samples) {
      expect(valueRanges.map(({ begin, end }) => expectedText.slice(begin, end))).toEqual(
        values.map((value) => ` ${value}`),
      );
    }
  });

  it("holds each value as often as the task says", () => {
    for (const { prompt, values, questionOffsetCharacters } of samples) {
      const text = prompt.slice(0, questionOffsetCharacters);
      for (const value of values) {
        if (/^\d+$|-/.test(value)) expect(occurrences(text, value)).toBe(1);
        else if (task === "single_word") expect(occurrences(text, ` is: ${value}.`)).toBe(1);
        // A stop or a variable on the way is named twice: where a step ends and where the next begins.
        else if (value !== "home") expect([...text.matchAll(new RegExp(` ${value}\\b`, "g"))]).toHaveLength(2);
      }
    }
  });

  it("has no value that is asked for in a fact that is not asked for", () => {
    for (const { facts, values } of samples) {
      const askedValues = new Set(values.filter((value) => value !== "home"));
      const others = facts.filter(({ asked }) => !asked);
      const said = others.flatMap(({ text }) => text.slice(0, -1).split(/ is:? | -> | = /));
      expect(said.filter((part) => askedValues.has(part))).toEqual([]);
    }
  });

  it("is solved by searching the text, and not by saying nothing", () => {
    for (const sample of samples) {
      const answer = oracleAnswer(sample.prompt);
      expect(answer).toBe(sample.expectedText);
      expect(scoreValues(answer, sample)).toEqual({
        inPlaceShare: 1,
        foundShare: 1,
        valuesBeforeFirstSlip: sample.values.length,
        exact: true,
      });
      expect(scoreValues("", sample)).toEqual({
        inPlaceShare: 0,
        foundShare: 0,
        valuesBeforeFirstSlip: 0,
        exact: false,
      });
    }
  });
});

describe("a sample", () => {
  it("has the recorded text for a seed: a change of this hash needs a new GENERATOR_NAME", () => {
    expect(GENERATOR_NAME).toBe("@pariskv/evaluation/needle@1");
    const hash = createHash("sha256");
    for (const task of TASKS) {
      const { prompt, expectedText } = build(task, 2048, 42);
      hash.update(`${prompt}${expectedText}\n`);
    }
    expect(hash.digest("hex")).toBe("51bb168d8efcf0925bc160054d2347e50c0906194a5a1005573b8f04526094f9");
  });

  it("has the number of facts and values that its task names", () => {
    const counts = (task: (typeof TASKS)[number], contextTokens: number) => {
      const { facts, values } = build(task, contextTokens, 0);
      return [facts.length, facts.filter(({ asked }) => asked).length, values.length];
    };
    expect(counts("single_uuid", 4096)).toEqual([1, 1, 1]);
    expect(counts("multikey", 4096)).toEqual([27, 1, 1]);
    expect(counts("multiquery", 4096)).toEqual([13, 4, 4]);
    expect(counts("list", 4096).slice(1)).toEqual([64, 64]);
    expect(counts("list_long", 16384).slice(1)).toEqual([204, 204]);
    expect(counts("walk", 4096).slice(1)).toEqual([100, 100]);
    expect(counts("walk_long", 4096).slice(1)).toEqual([170, 170]);
    expect(SEEDS.map((seed) => build("vt", 4096, seed).values.length)).toEqual([1, 2, 3, 4]);
    expect(build("multivalue", 4096, 0).values).toHaveLength(4);
  });

  it("hides a needle at any depth equally often", () => {
    const bins = new Array<number>(10).fill(0);
    const samples = 300;
    for (let seed = 0; seed < samples; seed++) {
      const { facts, questionOffsetCharacters } = build("single_num", 4096, seed);
      const [fact] = facts as [Sample["facts"][number]];
      const bin = Math.floor((10 * fact.offsetCharacters) / (questionOffsetCharacters - fact.text.length + 1));
      bins[bin] = (bins[bin] as number) + 1;
    }
    const expected = samples / bins.length;
    const chiSquare = bins.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    // The 1 % point of χ² with nine degrees of freedom.
    expect(chiSquare).toBeLessThan(21.67);
  });

  it("goes around the haystack when the context is longer", () => {
    const haystack = createHaystack({ name: "short", text: "Ants run. Bees fly. Cats sit. Dogs bark." });
    const sample = buildSample({
      task: "single_num",
      contextTokens: 2048,
      seed: 5,
      tokenizer: wordTokenizer,
      haystack,
    });
    expect(sample.promptTokens + sample.answerTokens).toBeGreaterThanOrEqual(0.9 * 2048);
    expect(occurrences(sample.prompt, " Dogs bark.\nAnts run.")).toBeGreaterThan(100);
    expect(oracleAnswer(sample.prompt)).toBe(sample.expectedText);
  });

  it.each([
    ["fewer", (words: number) => Math.ceil(words * 0.95)],
    ["more", (words: number) => words + Math.floor(words / 40)],
  ])("fits when a tokenizer writes %s tokens for a whole than for its pieces", (_, tokensOf) => {
    const tokenizer: TextTokenizer = {
      encode: (text) => ({ length: tokensOf(wordTokenizer.encode(text).length) }),
    };
    for (const task of TASKS) {
      const { promptTokens, answerTokens } = buildSample({ task, contextTokens: 4096, seed: 1, tokenizer });
      expect(promptTokens + answerTokens).toBeLessThanOrEqual(4096);
      expect(promptTokens + answerTokens).toBeGreaterThanOrEqual(0.85 * 4096);
    }
  });

  it("is refused when the facts asked for do not fit", () => {
    const wasteful: TextTokenizer = { encode: (text) => ({ length: 8 * text.length }) };
    expect(() => buildSample({ task: "walk_long", contextTokens: 1024, seed: 0, tokenizer: wasteful })).toThrow(
      /^Expected contextTokens to be at least \d+, which the facts asked for, .+ take but received 1024\.$/,
    );
  });

  it("ends with an error when a tokenizer counts nothing", () => {
    const nothing: TextTokenizer = { encode: () => [] };
    expect(() => buildSample({ task: "multikey_dense", contextTokens: 2 ** 20, seed: 0, tokenizer: nothing })).toThrow(
      /^Expected the number of keys to be at most/,
    );
    const sample = buildSample({ task: "single_num", contextTokens: 1024, seed: 0, tokenizer: nothing });
    expect(oracleAnswer(sample.prompt)).toBe(sample.expectedText);
  });

  it.each([
    ["a length below the smallest", { contextTokens: 1023 }, /^Expected contextTokens to be a whole number from 1024/],
    ["a length that is not whole", { contextTokens: 4096.5 }, /but received 4096\.5\.$/],
    ["a length above the largest", { contextTokens: 2 ** 20 + 1 }, /^Expected contextTokens to be/],
    ["a negative seed", { seed: -1 }, /^Expected seed to be a whole number from 0 to \d+ but received -1\.$/],
    ["a seed that is no number", { seed: Number.NaN }, /but received NaN\.$/],
    ["an unknown task", { task: "niah" as "vt" }, /^Expected task to be one of single_num, .+ but received "niah"\.$/],
  ])("is refused for %s", (_, wrong, message) => {
    const right = { task: "vt", contextTokens: 2048, seed: 0, tokenizer: wordTokenizer } as const;
    expect(() => buildSample({ ...right, ...wrong })).toThrow(message);
  });
});
