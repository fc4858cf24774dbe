import { describe, expect, it } from "vitest";
import { scoreValues } from "../src/index.js";

const list = {
  task: "list",
  values: ["2942", "9999", "3234"],
  expectedText: " involved links is 2942; situated reality is 9999; arranged tribe is 3234.",
} as const;
const walk = {
  task: "walk",
  values: ["remaining idea", "suitable border", "home"],
  expectedText: " -> remaining idea -> suitable border -> home.",
} as const;

describe("scoreValues", () => {
  it("tells a value in its place from a value found elsewhere", () => {
    expect(scoreValues(" involved links is 9999; situated reality is 2942; arranged tribe is 3234.", list)).toEqual({
      inPlaceShare: 1 / 3,
      foundShare: 1,
      valuesBeforeFirstSlip: 0,
      exact: false,
    });
  });

  it("counts the values before the first slip", () => {
    expect(scoreValues(" involved links is 2942; situated reality is 9998; arranged tribe is 3234.", list)).toEqual({
      inPlaceShare: 2 / 3,
      foundShare: 2 / 3,
      valuesBeforeFirstSlip: 1,
      exact: false,
    });
  });

  it("scores an answer that stops early by the values it gave", () => {
    const score = scoreValues(" involved links is 2942; situated reality is", list);
    expect(score).toEqual({ inPlaceShare: 1 / 3, foundShare: 1 / 3, valuesBeforeFirstSlip: 1, exact: false });
  });

  it("reads an answer up to its full stop and forgives white space around it", () => {
    const score = scoreValues(`${list.expectedText} Question: What next? Answer: 1; 2; 3; 4.\n`, list);
    expect(score).toEqual({ inPlaceShare: 1, foundShare: 1, valuesBeforeFirstSlip: 3, exact: true });
    expect(scoreValues(`\n${list.expectedText.trim()}`, list).exact).toBe(true);
  });

  it("follows the stops of a walk", () => {
    expect(scoreValues(" -> remaining idea -> dumb end -> home.", walk)).toEqual({
      inPlaceShare: 2 / 3,
      foundShare: 2 / 3,
      valuesBeforeFirstSlip: 1,
      exact: false,
    });
    // Without an arrow there is no first stop.
    expect(scoreValues(" remaining idea.", walk).inPlaceShare).toBe(0);
  });

  it("follows the assignments of a variable", () => {
    const sample = {
      task: "vt",
      values: ["VAR market", "59618"],
      expectedText: " = VAR market = 59618.",
    } as const;
    expect(scoreValues(" = VAR market = 59618.", sample).inPlaceShare).toBe(1);
    expect(scoreValues(" = 59618.", sample)).toMatchObject({ inPlaceShare: 0, foundShare: 0.5 });
  });

  it("finds values whatever their case, in place only as written", () => {
    const sample = { task: "single_uuid", values: ["0b8344df-db0c"], expectedText: " 0b8344df-db0c." } as const;
    expect(scoreValues(" 0B8344DF-DB0C.", sample)).toMatchObject({ inPlaceShare: 0, foundShare: 1 });
  });

  it("gives an answer of many guesses what it found and nothing in place", () => {
    const score = scoreValues("It is one of 1000, 2942, 9999, 3234 or 5000.", list);
    expect(score).toMatchObject({ inPlaceShare: 0, foundShare: 1 });
  });
});
