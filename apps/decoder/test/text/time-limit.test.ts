import { describe, expect, it } from "vitest";
import { withTimeLimit } from "../../src/text/time-limit.js";

const tooSlow = (cause: unknown) => new Error("too slow", { cause });

describe("withTimeLimit", () => {
  it("gives what the work gives", () => {
    const result = { a: 1 };
    expect(withTimeLimit(1_000, () => result, tooSlow)).toBe(result);
  });

  it("passes on what the work throws", () => {
    const fails = () => {
      throw new RangeError("mine");
    };
    expect(() => withTimeLimit(1_000, fails, tooSlow)).toThrow(RangeError);
  });

  it("stops a loop and a pattern that do not end, and works again afterwards", () => {
    const loops = () => {
      for (;;);
    };
    expect(() => withTimeLimit(50, loops, tooSlow)).toThrow("too slow");
    expect(() => withTimeLimit(50, () => /^(a+)+$/.test(`${"a".repeat(64)}b`), tooSlow)).toThrow("too slow");
    expect(withTimeLimit(1_000, () => 7, tooSlow)).toBe(7);
  });

  it("starts work again that stood still, and gives up when it always does", () => {
    const cell = new Int32Array(new SharedArrayBuffer(4));
    let runs = 0;
    const standsStill = (times: number) => () => {
      runs++;
      if (runs <= times) Atomics.wait(cell, 0, 0, 10_000);
      return "done";
    };
    expect(withTimeLimit(100, standsStill(2), tooSlow)).toBe("done");
    expect(runs).toBe(3);
    runs = 0;
    expect(() => withTimeLimit(100, standsStill(99), tooSlow)).toThrow("too slow");
    expect(runs).toBeLessThan(9);
  });

  it("may be used inside itself", () => {
    const inner = () => withTimeLimit(1_000, () => 1, tooSlow) + 1;
    expect(withTimeLimit(1_000, inner, tooSlow)).toBe(2);
  });
});
