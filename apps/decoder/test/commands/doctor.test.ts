import { describe, expect, it } from "vitest";
import { memoryLimit } from "../../src/commands/doctor.js";

describe("the limit of memory", () => {
  it.each([
    [undefined, null],
    [0, null],
    [2 ** 64 - 1, null],
    [2 ** 53, null],
    [8 * 2 ** 30, 8 * 2 ** 30],
  ])("of %s bytes as Node says it is %s", (said, limit) => {
    expect(memoryLimit(said)).toBe(limit);
  });
});
