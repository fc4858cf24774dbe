import { InvalidArgumentError, OutOfMemoryError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { TestMemory, text, ZONES } from "./support/test-memory.js";
import { trackAllocations } from "./support/track-allocations.js";

const DUE = ZONES.sinkTokens + ZONES.localTokens + 512;
/** A ring that two pages can be due in. */
const WIDE = { ...ZONES, chunkTokens: 600 };

/** A sequence in whose ring two pages are due. */
function twoPagesDue(options: ConstructorParameters<typeof TestMemory>[0] = {}) {
  const test = new TestMemory({ zones: WIDE, ...options });
  const sequence = test.memory.createSequence();
  const ids = text(DUE + 512);
  test.append(sequence, ids.slice(0, 600));
  test.append(sequence, ids.slice(600));
  return { test, sequence, ids };
}

describe("a flush", () => {
  it("is due from the token on that fills the local window behind 512 others", () => {
    const test = new TestMemory();
    const sequence = test.build(text(DUE - 1));
    expect(sequence.beginFlush()).toBeNull();
    expect(sequence.pagesDue(0)).toBe(0);
    expect(sequence.pagesDue(1)).toBe(1);
    expect(sequence.pagesDue(512)).toBe(1);
    expect(sequence.pagesDue(513)).toBe(2);
    test.append(sequence, [DUE - 1]);
    expect(sequence.pagesDue(0)).toBe(1);
    expect(sequence.flush()).toBe(1);
    expect(sequence.counts).toEqual({ sink: 5, zone: 512, ring: 16 });
  });

  it("leaves its tokens in the ring while it is enqueued, and moves them with the commit", () => {
    const test = new TestMemory();
    const sequence = test.build(text(DUE - 1));
    test.append(sequence, [DUE - 1]);
    const flush = sequence.beginFlush();
    expect([flush?.state, sequence.pending.length, sequence.zoneTokens]).toEqual(["enqueued", 1, 0]);
    expect(test.tables(sequence).zoneTokens).toBe(0);
    test.expectTokens(sequence, text(DUE));
    expect(sequence.beginFlush()).toBeNull();
    flush?.commit();
    expect([flush?.state, sequence.pending.length, sequence.zoneTokens]).toEqual(["committed", 0, 512]);
    expect(test.tables(sequence).zoneTokens).toBe(512);
    test.expectTokens(sequence, text(DUE));
  });

  it("counts the keys of every centroid when it commits", () => {
    const test = new TestMemory();
    const { idCounts, invalidKeys } = test.tables(test.build(text(DUE)));
    // 2 layers, 2 heads, 8 subspaces: each has seen the 512 keys once.
    for (let row = 0; row < 32; row++) {
      expect(idCounts.subarray(row * 256, (row + 1) * 256).reduce((sum, count) => sum + count, 0)).toBe(512);
    }
    expect([...invalidKeys]).toEqual([0, 0, 0, 0]);
  });

  it("behind the next step enqueues now and commits then, and the ring has room for that step", () => {
    const test = new TestMemory();
    const sequence = test.build(text(DUE - 1));
    const { chunkTokens } = ZONES;
    const seen = [];
    for (let tokens = DUE - 1; tokens < DUE + 16 * chunkTokens; tokens += chunkTokens) {
      sequence.prepareAppend(chunkTokens);
      test.append(sequence, text(chunkTokens, tokens));
      seen.push([sequence.flushBehind(), sequence.pending.length]);
      test.expectTokens(sequence, text(tokens + chunkTokens));
    }
    // The page is due with the first chunk, and the next one eight chunks later.
    const none = [0, 0];
    const later = [none, none, none, none, none, none];
    expect(seen).toEqual([[0, 1], [1, 0], ...later, [0, 1], [1, 0], ...later, [0, 1]]);
    expect(sequence.flush()).toBe(1);
    expect(sequence.zoneTokens).toBe(3 * 512);
  });

  it("commits in the order of its pages, whatever order is tried", () => {
    const { test, sequence, ids } = twoPagesDue();
    const [first, second] = [sequence.beginFlush(), sequence.beginFlush()];
    expect(() => second?.commit()).toThrow(
      'Expected the flush to be the oldest one of its sequence but received "page 1".',
    );
    expect([second?.state, sequence.zoneTokens]).toEqual(["enqueued", 0]);
    first?.commit();
    second?.commit();
    expect(sequence.zoneTokens).toBe(1024);
    test.expectTokens(sequence, ids);
  });

  it("can be aborted with those behind it, and begun again with nothing lost", () => {
    const { test, sequence, ids } = twoPagesDue();
    const [first, second] = [sequence.beginFlush(), sequence.beginFlush()];
    expect(test.memory.pages.usedPages).toBe(2);
    first?.abort();
    expect([first?.state, second?.state, sequence.pending.length]).toEqual(["aborted", "aborted", 0]);
    expect([test.memory.pages.usedPages, sequence.zoneTokens]).toEqual([0, 0]);
    test.expectTokens(sequence, ids);
    expect(sequence.flush()).toBe(2);
    test.expectTokens(sequence, ids);
  });

  it("can be aborted from its end alone", () => {
    const { test, sequence, ids } = twoPagesDue();
    const [first, second] = [sequence.beginFlush(), sequence.beginFlush()];
    second?.abort();
    expect(first?.state).toBe("enqueued");
    expect(sequence.flush()).toBe(2);
    test.expectTokens(sequence, ids);
  });

  it("ends once: a second commit or abort does nothing, the other one is refused", () => {
    const { sequence } = twoPagesDue();
    const [first, second] = [sequence.beginFlush(), sequence.beginFlush()];
    first?.commit();
    first?.commit();
    expect(sequence.zoneTokens).toBe(512);
    expect(() => first?.abort()).toThrow(
      'Expected the flush to be enqueued before it is aborted but received "committed".',
    );
    second?.abort();
    second?.abort();
    expect(() => second?.commit()).toThrow(InvalidArgumentError);
    expect(sequence.zoneTokens).toBe(512);
  });
});

describe("out of memory", () => {
  it("seals what the pool can hold and keeps the rest in the ring until there is room", () => {
    const { test, sequence, ids } = twoPagesDue({ capacityPages: 2 });
    const held = test.memory.pages.allocate();
    expect(() => sequence.flush()).toThrow(OutOfMemoryError);
    expect([sequence.zoneTokens, sequence.pending.length, test.memory.pages.usedPages]).toEqual([512, 0, 2]);
    test.expectTokens(sequence, ids);
    test.memory.pages.release(held);
    expect(sequence.flush()).toBe(1);
    test.expectTokens(sequence, ids);
  });

  it("in the context loses nothing either", () => {
    const test = new TestMemory();
    const allocations = trackAllocations(test.context);
    const sequence = test.build(text(DUE - 1));
    test.append(sequence, [DUE - 1]);
    allocations.allowed = 1;
    expect(() => sequence.flush()).toThrow(OutOfMemoryError);
    expect([sequence.zoneTokens, test.memory.pages.usedPages, allocations.live.size]).toEqual([0, 0, 0]);
    allocations.allowed = Number.POSITIVE_INFINITY;
    expect(sequence.flush()).toBe(1);
    test.expectTokens(sequence, text(DUE));
  });

  it("gives the page back when its work cannot be queued", () => {
    const test = new TestMemory();
    const sequence = test.build(text(DUE - 1));
    test.append(sequence, [DUE - 1]);
    const { offload } = test.context;
    test.context.offload = () => {
      throw new InvalidArgumentError({ argument: "offload", expected: "willing", received: "no" });
    };
    expect(() => sequence.beginFlush()).toThrow("Expected offload to be willing");
    expect([test.memory.pages.usedPages, sequence.pending.length]).toEqual([0, 0]);
    test.context.offload = offload;
    expect(sequence.flush()).toBe(1);
  });

  it("is foreseen: a step that would seal a page too many is refused before it begins", () => {
    const test = new TestMemory({ capacityPages: 1 });
    test.build(text(DUE));
    const second = test.build(text(DUE - 1));
    expect(() => second.prepareAppend(1)).toThrow(OutOfMemoryError);
    expect(() => second.requireRoom(1)).toThrow(OutOfMemoryError);
    test.expectTokens(second, text(DUE - 1));
  });
});

describe("appending", () => {
  it("refuses more than a chunk, nothing, and parts of tokens", () => {
    const sequence = new TestMemory().memory.createSequence();
    for (const count of [0, -1, 1.5, ZONES.chunkTokens + 1]) {
      expect(() => sequence.prepareAppend(count)).toThrow(InvalidArgumentError);
      expect(() => sequence.advance(count)).toThrow("Expected count to be a whole number");
    }
    expect(sequence.tokens).toBe(0);
  });

  it("refuses the token after the last one", () => {
    const test = new TestMemory({ maxTokens: 100 });
    const sequence = test.build(text(99));
    sequence.prepareAppend(1);
    test.append(sequence, [99]);
    expect(() => sequence.prepareAppend(1)).toThrow(
      "Expected the sequence to be at most 100 tokens long but received 101.",
    );
  });

  it("refuses to overwrite ring rows that were not flushed", () => {
    const test = new TestMemory();
    const sequence = test.build(text(DUE - 1));
    for (const chunk of [0, 1]) test.append(sequence, text(ZONES.chunkTokens, DUE - 1 + chunk * ZONES.chunkTokens));
    const full = `Expected the ring to be flushed before 1 tokens are appended but received "655 tokens in a ring of 655".`;
    expect(() => sequence.prepareAppend(1)).toThrow(full);
    expect(() => sequence.advance(1)).toThrow(full);
    sequence.flush();
    sequence.prepareAppend(1);
    test.expectTokens(sequence, text(DUE - 1 + 2 * ZONES.chunkTokens));
  });
});
