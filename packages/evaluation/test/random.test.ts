import { describe, expect, it } from "vitest";
import { createRandom, xoshiro128 } from "../src/random.js";

describe("random", () => {
  it("follows the published sequence of xoshiro128** from the state 1, 2, 3, 4", () => {
    const next = xoshiro128(Uint32Array.of(1, 2, 3, 4));
    expect(Array.from({ length: 10 }, next)).toEqual([
      11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804,
    ]);
  });

  it("gives the recorded draws of a seed text, and others for another text", () => {
    const draws = (text: string) => Array.from({ length: 4 }, createRandom(text).uint32);
    expect(draws("vt/4096/0")).toEqual(draws("vt/4096/0"));
    expect(draws("vt/4096/0")).not.toEqual(draws("vt/4096/1"));
    expect(draws("vt/4096/0")).toMatchInlineSnapshot(`
      [
        4241148092,
        1878266363,
        444116519,
        935058225,
      ]
    `);
  });

  it("draws every number of a range about equally often", () => {
    const random = createRandom("uniform");
    const counts = new Array<number>(7).fill(0);
    for (let draw = 0; draw < 70_000; draw++) {
      const value = random.between(3, 9) - 3;
      counts[value] = (counts[value] as number) + 1;
    }
    // Standard deviation √(70,000 · 1/7 · 6/7) = 93: five of them.
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(465);
  });

  it("says yes as often as the probability says", () => {
    const random = createRandom("chance");
    const yes = Array.from({ length: 10_000 }, () => random.chance(0.4)).filter(Boolean).length;
    // Standard deviation √(10,000 · .4 · .6) = 49: five of them.
    expect(Math.abs(yes - 4000)).toBeLessThan(245);
    expect(random.chance(0)).toBe(false);
    expect(random.chance(1)).toBe(true);
  });

  it("samples distinct items, at most all of them, and leaves the items as they were", () => {
    const random = createRandom("sample");
    const items = [1, 2, 3, 4, 5, 6, 7, 8];
    expect(new Set(random.sample(items, 5)).size).toBe(5);
    expect(random.sample(items, 20).sort()).toEqual(items);
    expect(random.shuffle(items)).not.toEqual(items);
    expect(random.sample(items, 0)).toEqual([]);
    expect(items).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });
});
