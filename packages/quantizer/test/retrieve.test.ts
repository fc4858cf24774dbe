import { describe, expect, it } from "vitest";
import {
  candidateCount,
  createQuantizer,
  findCalibration,
  type GroupPolicy,
  InvalidArgumentError,
  NO_SCORE,
  retrieve,
  summarizeKeys,
  type VotePolicy,
} from "../src/index.js";
import { attendByDefinition, recordsOf, topBySort } from "./oracles.js";
import { Random } from "./random.js";

const policies = (["graded", "tiered"] as const).flatMap((votes) =>
  (["mean", "max", "sum"] as const).map((group) => ({ votes, group })),
);

/** A zone of random keys, its records and a group of queries. */
function zone(seed: number, tokens: number, headDim = 64, groupHeads = 2) {
  const random = new Random(seed);
  const quantizer = createQuantizer({ headDim });
  const keys = random.normals(tokens * headDim);
  const records = recordsOf(keys, random.normals(tokens * headDim), headDim);
  const queries = random.normals(groupHeads * headDim).map((value) => 2 * value);
  return { random, quantizer, keys, records, queries, groupHeads, headDim, tokens };
}

describe.each(policies)("retrieve with $votes votes and group $group (seed 101)", ({ votes, group }) => {
  const { random, quantizer, keys, records, queries, groupHeads, headDim, tokens } = zone(101, 1300);
  const windowRecords = random.normals(20 * 2 * headDim);
  const everything = [...Array(tokens).keys()];
  const base = { records, windowRecords, queries, groupHeads, votes, group };

  it.each(["none", "center", "balance"] as const)(
    "equals full attention in f64 when everything is selected, calibration %s",
    (mode) => {
      const calibration = findCalibration({
        mode,
        headDim,
        keys,
        keyCount: tokens,
        queries: new Random(5).normals(50 * headDim),
        queryCount: 50,
      });
      const summaries = summarizeKeys({ quantizer, keys, tokens, calibration });
      const result = retrieve({ ...base, summaries, candidateShare: 1, retrievalK: tokens });
      expect(Array.from(result.selected)).toEqual(everything);
      const joined = new Float32Array(windowRecords.length + records.length);
      joined.set(windowRecords);
      joined.set(records, windowRecords.length);
      for (let head = 0; head < groupHeads; head++) {
        const query = queries.subarray(head * headDim, (head + 1) * headDim);
        const exact = attendByDefinition(query, joined, [...Array(tokens + 20).keys()]);
        exact.output.forEach((value, j) => {
          expect(Math.abs(result.output[head * headDim + j]! - value)).toBeLessThan(1e-6);
        });
        expect(Math.abs(result.logSums[head]! - exact.logSum)).toBeLessThan(1e-5);
        expect(result.retrievedMass[head]).toBe(1);
      }
    },
  );

  it("keeps candidates and selected keys in order, within budget and within each other", () => {
    const summaries = summarizeKeys({ quantizer, keys, tokens });
    const result = retrieve({ ...base, summaries, candidateShare: 0.1, retrievalK: 40 });
    expect(result.candidates.length).toBe(candidateCount(tokens, 0.1));
    expect(result.selected.length).toBe(40);
    expect(Array.from(result.candidates)).toEqual(topBySort(result.scores, 130));
    const wanted = topBySort(result.priorities, 40).map((position) => result.candidates[position]!);
    expect(Array.from(result.selected)).toEqual(wanted);
    for (const mass of result.retrievedMass) {
      expect(mass).toBeGreaterThan(0);
      expect(mass).toBeLessThan(1);
    }
  });

  it("attends to the window alone when the zone is empty", () => {
    const summaries = summarizeKeys({ quantizer, keys, tokens: 0 });
    const result = retrieve({ ...base, summaries });
    expect(result.selected.length).toBe(0);
    const exact = attendByDefinition(queries.subarray(0, headDim), windowRecords, [...Array(20).keys()]);
    exact.output.forEach((value, j) => {
      expect(Math.abs(result.output[j]! - value)).toBeLessThan(1e-6);
    });
    expect(Array.from(result.retrievedMass)).toEqual([1, 1]);
  });

  it("finds the single key of a zone of one, whatever K", () => {
    const summaries = summarizeKeys({ quantizer, keys, tokens: 1 });
    const { windowRecords: _, ...withoutWindow } = base;
    for (const retrievalK of [1, 100]) {
      const result = retrieve({ ...withoutWindow, summaries, retrievalK });
      expect(Array.from(result.selected)).toEqual([0]);
      expect(result.output.subarray(0, headDim)).toEqual(records.subarray(headDim, 2 * headDim));
    }
  });

  it("takes all candidates when K is larger than the zone, and nothing else", () => {
    const summaries = summarizeKeys({ quantizer, keys, tokens: 30 });
    const result = retrieve({ ...base, summaries, retrievalK: 100 });
    expect(Array.from(result.selected)).toEqual(Array.from(result.candidates));
    expect(result.candidates.length).toBe(15);
  });

  it("never selects invalid keys and keeps the output finite and unaffected by them", () => {
    const spoiltKeys = keys.slice(0, 600 * headDim);
    const spoiltRecords = records.slice(0, 600 * 2 * headDim);
    const invalid = [3, 4, 511, 512, 599];
    invalid.forEach((token, i) => {
      const value = [0, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN][i]!;
      spoiltKeys.fill(value, token * headDim, (token + 1) * headDim);
      spoiltRecords.fill(value, 2 * token * headDim, (2 * token + 2) * headDim);
    });
    const summaries = summarizeKeys({ quantizer, keys: spoiltKeys, tokens: 600 });
    expect(summaries.invalidKeys).toEqual([3, 2]);
    const result = retrieve({ ...base, summaries, records: spoiltRecords, candidateShare: 1, retrievalK: 600 });
    const valid = [...Array(600).keys()].filter((token) => !invalid.includes(token));
    expect(Array.from(result.selected)).toEqual(valid);
    expect(invalid.map((token) => result.scores[token])).toEqual(invalid.map(() => NO_SCORE));
    expect(result.output.every(Number.isFinite)).toBe(true);
  });

  it("returns zeros for a zone of invalid keys and no window", () => {
    const summaries = summarizeKeys({ quantizer, keys: new Float32Array(10 * headDim), tokens: 10 });
    const { windowRecords: _, ...withoutWindow } = base;
    const result = retrieve({ ...withoutWindow, summaries, records: new Float32Array(20 * headDim) });
    expect(result.candidates.length).toBe(0);
    expect(result.output.every((value) => value === 0)).toBe(true);
    expect(Array.from(result.logSums)).toEqual([-Infinity, -Infinity]);
  });

  it("survives queries that are not finite", () => {
    const summaries = summarizeKeys({ quantizer, keys, tokens });
    const spoilt = queries.slice();
    spoilt[0] = Number.NaN;
    const result = retrieve({ ...base, summaries, queries: spoilt });
    expect(result.selected.length).toBe(100);
    expect(result.output.every(Number.isFinite)).toBe(true);
    expect(result.output.subarray(0, headDim).every((value) => value === 0)).toBe(true);
    expect(result.output.subarray(headDim).some((value) => value !== 0)).toBe(true);
  });

  it("gives the same result every time", () => {
    const summaries = summarizeKeys({ quantizer, keys, tokens });
    expect(retrieve({ ...base, summaries })).toEqual(retrieve({ ...base, summaries }));
  });
});

describe("retrieve (seed 102)", () => {
  const { quantizer, keys, records, queries, groupHeads, tokens } = zone(102, 20);
  const summaries = summarizeKeys({ quantizer, keys, tokens });
  const base = { summaries, records, queries, groupHeads };

  it("does not see a centring vector in attention, only in the estimates", () => {
    const calibration = findCalibration({ mode: "center", headDim: 64, keys, keyCount: tokens });
    const centred = summarizeKeys({ quantizer, keys, tokens, calibration });
    const all = { candidateShare: 1, retrievalK: 20 };
    expect(retrieve({ ...base, ...all, summaries: centred }).output).toEqual(retrieve({ ...base, ...all }).output);
  });

  it("can fetch nothing", () => {
    const result = retrieve({ ...base, retrievalK: 0 });
    expect(result.selected.length).toBe(0);
    expect(result.output.every((value) => value === 0)).toBe(true);
    expect(Array.from(result.retrievedMass)).toEqual([0, 0]);
  });

  it.each([
    { records: records.subarray(1) },
    { queries: queries.subarray(1) },
    { groupHeads: 0 },
    { retrievalK: -1 },
    { retrievalK: 1.5 },
    { candidateShare: 0 },
    { activatedShare: 2 },
    { votes: "none" as VotePolicy },
    { group: "none" as GroupPolicy },
  ])("refuses %o", (change) => {
    expect(() => retrieve({ ...base, ...change })).toThrow(InvalidArgumentError);
  });
});
