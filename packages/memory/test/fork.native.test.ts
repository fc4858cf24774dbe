import { OutOfMemoryError } from "@pariskv/quantizer";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { describeDevices } from "../../kernels/test/support/devices.js";
import type { SequenceMemory } from "../src/index.js";
import { TestMemory, text, ZONES } from "./support/test-memory.js";

const { sinkTokens, localTokens } = ZONES;
/** The length at which page number `index` is sealed. */
const seal = (index: number) => sinkTokens + localTokens + 512 * (index + 1);
/** Two pages sealed, the ring wrapped twice and full but for one token. */
const PARENT = seal(2) - 1;

/** Inside the sink, at its end, in the ring, where pages begin and are sealed, where the ring wraps, everything. */
const LENGTHS = [
  ...[0, 1, sinkTokens - 1, sinkTokens, sinkTokens + 1, 300],
  ...[sinkTokens + 511, sinkTokens + 512, sinkTokens + 513, seal(0) - 1, seal(0), seal(0) + 1],
  ...[sinkTokens + 654, sinkTokens + 655, sinkTokens + 656, sinkTokens + 1023, sinkTokens + 1024, sinkTokens + 1025],
  ...[seal(1) - 1, seal(1), seal(1) + 1, PARENT - 1, PARENT],
];

describeDevices("a fork", (device) => {
  let test: TestMemory;
  let parent: SequenceMemory;
  const ids = text(PARENT);
  beforeAll(() => {
    test = new TestMemory({ context: device.open() });
    parent = test.build(ids);
  });
  afterAll(() => test?.context.dispose());

  it.each(LENGTHS)("of %d tokens holds what a sequence that was built alone holds", (length) => {
    using child = parent.fork(length);
    using alone = test.build(ids.slice(0, length));
    test.expectTokens(child, ids.slice(0, length));
    expect(child.counts).toEqual(alone.counts);
    expect(test.tables(child)).toEqual(test.tables(alone));
    // Shared, not copied.
    expect(child.pages).toEqual(parent.pages.slice(0, alone.pages.length));
  });

  it.each([0, sinkTokens + 1, sinkTokens + 513, seal(0), seal(1) - 1, PARENT])(
    "of %d tokens goes its own way, and its parent stays as it was",
    (length) => {
      using child = parent.fork(length);
      const own = [...ids.slice(0, length), ...text(600, 50_000)];
      test.grow(child, own.slice(length));
      test.expectTokens(child, own);
      test.expectTokens(parent, ids);
    },
  );

  it("of a fork outlives both of its parents", () => {
    const first = parent.fork();
    const second = first.fork(seal(1));
    expect(test.memory.pages.references(parent.pages[0] as number)).toBe(3);
    first.dispose();
    test.expectTokens(second, ids.slice(0, seal(1)));
    second.dispose();
    expect(test.memory.pages.references(parent.pages[0] as number)).toBe(1);
    expect(test.memory.freeSlots).toBe(3);
  });
});

describe("a fork on the reference device", () => {
  it("commits what its parent has enqueued", () => {
    const test = new TestMemory();
    const parent = test.build(text(seal(0) - 1));
    test.append(parent, [seal(0) - 1]);
    const flush = parent.beginFlush();
    using child = parent.fork();
    expect([flush?.state, child.zoneTokens]).toEqual(["committed", 512]);
    test.expectTokens(child, text(seal(0)));
  });

  it("of a parent that could not seal its page has the tokens in its ring, and seals them itself later", () => {
    const test = new TestMemory({ capacityPages: 1 });
    const held = test.memory.pages.allocate();
    const parent = test.build(text(seal(0) - 1));
    test.append(parent, text(10, seal(0) - 1));
    expect(() => parent.flush()).toThrow(OutOfMemoryError);
    using child = parent.fork();
    expect(child.zoneTokens).toBe(0);
    test.expectTokens(child, text(seal(0) + 9));
    test.memory.pages.release(held);
    expect(child.flush()).toBe(1);
    test.expectTokens(child, text(seal(0) + 9));
  });

  it.each([-1, 11, 2.5, Number.NaN])("refuses %d tokens of a sequence of 10", (tokens) => {
    const test = new TestMemory();
    const parent = test.build(text(10));
    expect(() => parent.fork(tokens)).toThrow("Expected tokens to be a whole number from 0 to 10");
    expect(test.memory.freeSlots).toBe(3);
  });

  it("is refused when every slot is taken", () => {
    const test = new TestMemory({ slots: 1 });
    const parent = test.build(text(10));
    expect(() => parent.fork()).toThrow(OutOfMemoryError);
    test.expectTokens(parent, text(10));
  });

  it("that fails on the way gives everything back", () => {
    const test = new TestMemory();
    const parent = test.build(text(seal(1)));
    const { commit } = test.context;
    let calls = 0;
    test.context.commit = (args) => {
      calls++;
      if (calls === 2) throw new OutOfMemoryError({ kind: "device", requestedBytes: 1, availableBytes: 0 });
      commit.call(test.context, args);
    };
    expect(() => parent.fork()).toThrow(OutOfMemoryError);
    test.context.commit = commit;
    expect(parent.pages.map((page) => test.memory.pages.references(page))).toEqual([1, 1]);
    expect(test.memory.freeSlots).toBe(3);
    using child = parent.fork();
    test.expectTokens(child, text(seal(1)));
  });
});
