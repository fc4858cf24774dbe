import { InvalidArgumentError } from "@pariskv/quantizer";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAX_STOP_LENGTH, MAX_STOP_STRINGS, StopStrings } from "../../src/text/stop-strings.js";

const SEED = 11;
console.info(`stop string properties: seed ${SEED}`);

/** What is shown of a text that comes in pieces. */
function shown(strings: readonly string[], pieces: readonly string[]): { text: string; stopped: boolean } {
  const stop = new StopStrings(strings);
  const results = pieces.map((piece) => stop.push(piece));
  const text = results.map((result) => result.text).join("") + stop.end();
  return { text, stopped: results.at(-1)?.stopped ?? false };
}

describe("StopStrings", () => {
  it("ends the text before the string, wherever the pieces are cut", () => {
    expect(shown(["\n\n"], ["one\n", "\ntwo"])).toEqual({ text: "one", stopped: true });
    expect(shown(["END"], ["a", "E", "N", "D", "b"])).toEqual({ text: "a", stopped: true });
    expect(shown(["END"], ["aENDbEND"])).toEqual({ text: "a", stopped: true });
  });

  it("shows what only looked like a beginning", () => {
    expect(shown(["END"], ["EEN", "E", "N"])).toEqual({ text: "EENEN", stopped: false });
    expect(shown([], ["abc"])).toEqual({ text: "abc", stopped: false });
  });

  it("takes the string that begins first", () => {
    expect(shown(["cd", "bcde"], ["abcde"])).toEqual({ text: "a", stopped: true });
  });

  it("holds back no more than could be the beginning of a string", () => {
    const stop = new StopStrings(["END"]);
    expect(stop.push("xyzE")).toEqual({ text: "xyz", stopped: false });
    expect(stop.push("x")).toEqual({ text: "Ex", stopped: false });
  });

  it("the cuts of the text make no difference", () => {
    const letters = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 30 });
    const strings = fc.array(fc.string({ unit: fc.constantFrom("a", "b"), minLength: 1, maxLength: 4 }), {
      maxLength: 3,
    });
    fc.assert(
      fc.property(letters, strings, (text, stops) => {
        const starts = stops.map((string) => text.indexOf(string)).filter((start) => start >= 0);
        const whole = shown(stops, [text]);
        const expected = starts.length > 0 ? text.slice(0, Math.min(...starts)) : text;
        expect(whole.text).toBe(expected);
        const single = shown(stops, [...text]);
        expect(single.stopped).toBe(starts.length > 0);
        // By single letters the string that is complete first ends the text, which may begin later.
        expect(text.startsWith(single.text)).toBe(true);
        expect(stops.some((string) => single.text.includes(string))).toBe(false);
      }),
      { numRuns: 1_000, seed: SEED },
    );
  });

  it("takes 16 strings of 256 characters and not one more of either", () => {
    const longest = "x".repeat(MAX_STOP_LENGTH);
    expect(() => new StopStrings(Array.from({ length: MAX_STOP_STRINGS }, () => longest))).not.toThrow();
    expect(() => new StopStrings(Array.from({ length: MAX_STOP_STRINGS + 1 }, () => "x"))).toThrow(
      InvalidArgumentError,
    );
    expect(() => new StopStrings([`${longest}x`])).toThrow(InvalidArgumentError);
    expect(() => new StopStrings([""])).toThrow(InvalidArgumentError);
  });
});
