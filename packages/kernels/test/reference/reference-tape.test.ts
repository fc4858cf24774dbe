import { DisposedError, InvalidArgumentError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import type { Context } from "../../src/context.js";
import { createReferenceContext } from "../../src/reference/reference-context.js";

function createCounter(context: Context) {
  const x = context.allocate(4, "device");
  const weight = context.allocate(4, "device");
  weight.write(0, Float32Array.of(1));
  x.write(0, Float32Array.of(1));
  const out = context.allocate(4, "device");
  const count = () => {
    const value = new Float32Array(1);
    out.read(0, value);
    return value[0];
  };
  /** out = out + x. */
  const add = () => {
    context.linear({
      x: { buffer: x, rowStride: 1 },
      weight: { buffer: weight },
      dtype: "f32",
      inWidth: 1,
      outWidth: 1,
      rowCount: 1,
      accumulate: true,
      out: { buffer: out, rowStride: 1 },
    });
  };
  return { x, add, count };
}

describe("tapes of the reference backend", () => {
  it("runs nothing while it records, and everything each time it runs", async () => {
    using context = createReferenceContext();
    const { add, count } = createCounter(context);
    const tape = context.record(() => {
      add();
      add();
    });
    expect(count()).toBe(0);
    tape.run();
    expect(count()).toBe(2);
    const running = tape.runAsync();
    expect(count()).toBe(2);
    await running;
    expect(count()).toBe(4);
  });

  it("sees what is written between runs, and keeps memory that has been disposed since", () => {
    using context = createReferenceContext();
    const { x, add, count } = createCounter(context);
    const tape = context.record(add);
    x.write(0, Float32Array.of(5));
    tape.run();
    expect(count()).toBe(5);
    x.dispose();
    tape.run();
    expect(count()).toBe(10);
    expect(add).toThrow(DisposedError);
  });

  it("refuses to record or to run inside record, and records nothing of a body that throws", () => {
    using context = createReferenceContext();
    const { add, count } = createCounter(context);
    const tape = context.record(add);
    expect(() => context.record(() => context.record(add))).toThrow(InvalidArgumentError);
    expect(() => context.record(() => tape.run())).toThrow("Expected run to be called outside record");
    const failure = new Error("from the body");
    expect(() =>
      context.record(() => {
        add();
        throw failure;
      }),
    ).toThrow(failure);
    expect(count()).toBe(0);
    add();
    expect(count()).toBe(1);
  });

  it("adds up calls and time per verb until they are taken", () => {
    using context = createReferenceContext();
    const { add } = createCounter(context);
    const tape = context.record(add);
    tape.run();
    tape.run();
    add();
    const times = context.takeTimes();
    expect([...times.keys()]).toEqual(["linear"]);
    expect(times.get("linear")?.calls).toBe(3);
    expect(times.get("linear")?.microseconds).toBeGreaterThan(0);
    expect(context.takeTimes().size).toBe(0);
  });

  it("refuses a disposed tape, and rejects what the context did not live to run", async () => {
    const context = createReferenceContext();
    const { add } = createCounter(context);
    const tape = context.record(add);
    const waiting = tape.runAsync();
    tape.dispose();
    tape.dispose();
    expect(() => tape.run()).toThrow("Expected the tape to be in use but received a disposed one.");
    await expect(tape.runAsync()).rejects.toThrow(DisposedError);
    await waiting;
    const late = context.record(add);
    const rejected = late.runAsync();
    context.dispose();
    await expect(rejected).rejects.toThrow("Expected the context to be in use");
    expect(() => late.run()).toThrow(DisposedError);
    expect(() => context.record(add)).toThrow(DisposedError);
  });
});
