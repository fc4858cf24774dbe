import { describe, expect, it } from "vitest";
import { buildSample, scoreTeacherForced, type TextTokenizer, valueTokenRanges } from "../src/index.js";
import { wordTokenizer } from "./word-tokenizer.js";

const sample = {
  expectedText: " red fox is 2942; old tree is 17.",
  valueRanges: [
    { begin: 11, end: 16 },
    { begin: 29, end: 32 },
  ],
};
//                red fox is _ 2 9 4 2 ; old tree is _ 1 7 .
const expectedIds = [5, 6, 7, 1, 2, 9, 4, 2, 8, 10, 11, 7, 1, 1, 3, 12];
const ranges = [
  { begin: 3, end: 8 },
  { begin: 12, end: 15 },
];

describe("teacher-forced scoring", () => {
  it("finds the tokens of each value", () => {
    expect(valueTokenRanges({ tokenizer: wordTokenizer, sample })).toEqual(ranges);
  });

  it("covers as many ranges as there are values, in order, for every kind of answer", () => {
    for (const task of ["single_uuid", "list", "vt", "walk"] as const) {
      const built = buildSample({ task, contextTokens: 2048, seed: 3, tokenizer: wordTokenizer });
      const found = valueTokenRanges({ tokenizer: wordTokenizer, sample: built });
      expect(found).toHaveLength(built.values.length);
      let last = 0;
      for (const { begin, end } of found) {
        expect(begin).toBeGreaterThanOrEqual(last);
        expect(end).toBeGreaterThan(begin);
        last = end;
      }
      expect(last).toBeLessThan(built.answerTokens);
    }
  });

  it("counts a value when all its tokens are right, whatever stands between values", () => {
    expect(scoreTeacherForced({ expectedIds, predictedIds: expectedIds, ranges })).toBe(1);
    expect(scoreTeacherForced({ expectedIds, predictedIds: expectedIds.with(9, 99), ranges })).toBe(1);
    expect(scoreTeacherForced({ expectedIds, predictedIds: expectedIds.with(7, 99), ranges })).toBe(0.5);
    expect(scoreTeacherForced({ expectedIds, predictedIds: expectedIds.with(3, 99).with(14, 99), ranges })).toBe(0);
  });

  it("refuses no values, and too few ids", () => {
    expect(() => scoreTeacherForced({ expectedIds, predictedIds: expectedIds, ranges: [] })).toThrow(
      "Expected ranges to be at least one range but received an array of 0 elements.",
    );
    expect(() => scoreTeacherForced({ expectedIds, predictedIds: expectedIds.slice(0, 14), ranges })).toThrow(
      "Expected predictedIds.length to be at least 15 but received 14.",
    );
  });

  it("refuses a tokenizer that joins tokens across words", () => {
    const everyFourCharacters: TextTokenizer = { encode: (text) => ({ length: Math.ceil(text.length / 4) }) };
    expect(() => valueTokenRanges({ tokenizer: everyFourCharacters, sample })).toThrow(/joins tokens across the words/);
  });
});
