import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  CENTROIDS,
  collide,
  createQuantizer,
  encodePage,
  excludeInvalidKeys,
  InvalidArgumentError,
  MAX_VOTE,
  NO_SCORE,
  noCalibration,
  PAGE_TOKENS,
  SCORE_BINS,
  select,
  summaryLayout,
} from "../src/index.js";
import { topBySort } from "./oracles.js";
import { Random } from "./random.js";

describe("collide (seed 51)", () => {
  const random = new Random(51);

  it.each([
    [8, 1, 512],
    [16, 3, 512],
    [32, 2, 5],
    [1, 1, 1],
  ])("adds the votes of %i subspaces, best of %i tables, for %i tokens", (subspaces, tableCount, tokens) => {
    const ids = Uint8Array.from({ length: subspaces * PAGE_TOKENS }, () => random.below(256));
    const tables = Uint8Array.from({ length: tableCount * subspaces * CENTROIDS }, () => random.below(MAX_VOTE + 1));
    const scores = new Uint16Array(tokens + 4).fill(9);
    collide(ids, tables, tableCount, subspaces, tokens, PAGE_TOKENS, scores, 2);
    for (let i = 0; i < tokens; i++) {
      const perTable = Array.from({ length: tableCount }, (_, t) => {
        let sum = 0;
        for (let b = 0; b < subspaces; b++) {
          sum += tables[(t * subspaces + b) * CENTROIDS + ids[b * PAGE_TOKENS + i]!]!;
        }
        return sum;
      });
      expect(scores[2 + i]).toBe(Math.max(...perTable));
    }
    expect([scores[0], scores[1], scores[tokens + 2], scores[tokens + 3]]).toEqual([9, 9, 9, 9]);
  });

  it("reaches the largest score, which is below NO_SCORE and inside the histogram", () => {
    const scores = new Uint16Array(1);
    collide(new Uint8Array(32), new Uint8Array(32 * CENTROIDS).fill(MAX_VOTE), 1, 32, 1, 1, scores, 0);
    expect(scores[0]).toBe(SCORE_BINS - 1);
  });

  it("refuses arrays that are too short", () => {
    const run = (ids: number, tables: number, scores: number) => () =>
      collide(new Uint8Array(ids), new Uint8Array(tables), 2, 8, 3, 4, new Uint16Array(scores), 1);
    expect(run(31, 2 * 8 * CENTROIDS, 4)).not.toThrow();
    expect(run(30, 2 * 8 * CENTROIDS, 4)).toThrow(InvalidArgumentError);
    expect(run(31, 2 * 8 * CENTROIDS - 1, 4)).toThrow(InvalidArgumentError);
    expect(run(31, 2 * 8 * CENTROIDS, 3)).toThrow(InvalidArgumentError);
  });
});

describe("excludeInvalidKeys (seed 52)", () => {
  it("marks exactly the keys that encode called invalid", () => {
    const random = new Random(52);
    const quantizer = createQuantizer({ headDim: 64 });
    const layout = summaryLayout(64);
    const keys = random.normals(PAGE_TOKENS * 64).map((value, i) => value * 10 ** ((Math.floor(i / 64) % 38) - 19));
    const invalid: number[] = [];
    for (let slot = 0; slot < PAGE_TOKENS; slot += 1 + random.below(40)) {
      keys.fill(slot % 2 === 0 ? 0 : Number.POSITIVE_INFINITY, slot * 64, (slot + 1) * 64);
      invalid.push(slot);
    }
    const page = new Uint8Array(layout.headPageBytes);
    const counts = new Uint32Array(8 * CENTROIDS);
    const count = encodePage(quantizer, noCalibration(64), keys, 0, 64, PAGE_TOKENS, page, counts);
    expect(count).toBe(invalid.length);
    const codes = page.subarray(layout.codesOffsetBytes, layout.weightsOffsetBytes);
    const scores = new Uint16Array(PAGE_TOKENS + 1).fill(7);
    expect(excludeInvalidKeys(codes, 32, PAGE_TOKENS, scores, 1)).toBe(count);
    expect(Array.from(scores.keys()).filter((i) => scores[i] === NO_SCORE)).toEqual(invalid.map((slot) => slot + 1));
  });

  it("refuses arrays that are too short", () => {
    expect(() => excludeInvalidKeys(new Uint8Array(63), 32, 2, new Uint16Array(2), 0)).toThrow(InvalidArgumentError);
    expect(() => excludeInvalidKeys(new Uint8Array(64), 32, 2, new Uint16Array(2), 1)).toThrow(InvalidArgumentError);
  });
});

describe("select", () => {
  const histogram = new Uint32Array(SCORE_BINS);
  const run = (scores: Uint16Array, count: number): number[] => {
    const candidates = new Uint32Array(Math.min(count, scores.length));
    const found = select(scores, scores.length, count, histogram, candidates);
    return Array.from(candidates.subarray(0, found));
  };

  it("equals a full sort, whatever the ties, the count and the invalid keys (seed 53)", () => {
    const score = fc.oneof(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 0, max: 2016 }), fc.constant(NO_SCORE));
    const cases = fc.tuple(fc.array(score, { maxLength: 300 }), fc.integer({ min: 0, max: 320 }));
    fc.assert(
      fc.property(cases, ([list, count]) => {
        const scores = Uint16Array.from(list);
        expect(run(scores, count)).toEqual(topBySort(scores, count, (i) => scores[i] !== NO_SCORE));
        const valid = list.filter((value) => value !== NO_SCORE);
        expect(histogram.reduce((sum, keys) => sum + keys, 0)).toBe(valid.length);
        for (const value of new Set(valid)) {
          expect(histogram[value]).toBe(valid.filter((other) => other === value).length);
        }
      }),
      { seed: 53, numRuns: 300 },
    );
  });

  it("gives ties to the smaller index", () => {
    expect(run(Uint16Array.of(5, 5, 9, 5, 5), 3)).toEqual([0, 1, 2]);
    expect(run(new Uint16Array(6), 2)).toEqual([0, 1]);
  });

  it("never takes an invalid key, even when too few others are left", () => {
    expect(run(Uint16Array.of(NO_SCORE, 0, NO_SCORE, 3), 4)).toEqual([1, 3]);
    expect(run(Uint16Array.of(NO_SCORE, NO_SCORE), 1)).toEqual([]);
  });

  it("works on zones of no and of one key", () => {
    expect(run(new Uint16Array(0), 3)).toEqual([]);
    expect(run(Uint16Array.of(2016), 3)).toEqual([0]);
    expect(run(Uint16Array.of(7), 0)).toEqual([]);
  });

  it("refuses arrays that are too short and counts that are no counts", () => {
    const scores = new Uint16Array(4);
    const candidates = new Uint32Array(2);
    expect(() => select(scores, 4, 2, histogram, candidates)).not.toThrow();
    expect(() => select(scores, 5, 2, histogram, candidates)).toThrow(InvalidArgumentError);
    expect(() => select(scores, 4, 3, histogram, candidates)).toThrow(InvalidArgumentError);
    expect(() => select(scores, 4, 2, histogram.subarray(1), candidates)).toThrow(InvalidArgumentError);
    expect(() => select(scores, 4, -1, histogram, candidates)).toThrow(InvalidArgumentError);
    expect(() => select(scores, 4, 1.5, histogram, candidates)).toThrow(InvalidArgumentError);
  });
});
