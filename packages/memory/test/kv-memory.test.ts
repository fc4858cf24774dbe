import { BUDGET_FIELDS, createContext, type HotSet } from "@pariskv/kernels";
import { DisposedError, InvalidArgumentError, OutOfMemoryError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import type { KvMemoryOptions } from "../src/index.js";
import { GEOMETRY, TestMemory, text, ZONES } from "./support/test-memory.js";
import { trackAllocations } from "./support/track-allocations.js";

const DUE = ZONES.sinkTokens + ZONES.localTokens + 512;

describe("slots", () => {
  it("are refused with numbers when all are taken, and given out again when one is free", () => {
    const test = new TestMemory({ slots: 2 });
    const first = test.memory.createSequence();
    test.memory.createSequence();
    expect(test.memory.freeSlots).toBe(0);
    expect(() => test.memory.createSequence()).toThrow(
      /^Expected the free sequence slot memory to be at least \d+ bytes but received 0 bytes\.$/,
    );
    first.dispose();
    first.dispose();
    expect(test.memory.freeSlots).toBe(1);
    expect(test.memory.createSequence().slot).toBe(first.slot);
  });

  it("begin empty for their next sequence", () => {
    const test = new TestMemory({ slots: 1 });
    const first = test.build(text(DUE));
    const budget = new Int32Array(GEOMETRY.layers * BUDGET_FIELDS).fill(7);
    test.memory.writeBudget(first.slot, budget);
    first.dispose();
    const second = test.memory.createSequence();
    const { zoneTokens, idCounts } = test.tables(second);
    expect([zoneTokens, Math.max(...idCounts)]).toEqual([0, 0]);
    test.memory.cache.params.budget.buffer.read(0, budget);
    expect([...new Set(budget)]).toEqual([0]);
    test.grow(second, text(DUE, 9000));
    test.expectTokens(second, text(DUE, 9000));
  });
});

describe("the hot set", () => {
  const lines = 8;
  const heads = GEOMETRY.layers * GEOMETRY.kvHeads;

  it("is none unless it is asked for", () => {
    const { memory } = new TestMemory();
    expect([memory.cache.params.hotSet, memory.bytes.hotSet]).toEqual([undefined, 0]);
  });

  it("has a line and a tag for each slot, layer, KV head and line", () => {
    const { memory } = new TestMemory({ slots: 3, hotLines: lines });
    const { tags, records } = memory.cache.params.hotSet as HotSet;
    expect([tags.buffer.bytes, records.buffer.bytes]).toEqual([3 * heads * lines * 4, 3 * heads * lines * 256]);
    expect([tags.buffer.kind, records.buffer.kind]).toEqual(["device", "device"]);
    expect(memory.bytes.hotSet).toBe(tags.buffer.bytes + records.buffer.bytes);
  });

  it("is empty for the next sequence of a slot and for a fork, and stays as it is for the others", () => {
    const test = new TestMemory({ slots: 3, hotLines: lines });
    const [first, second] = [test.build(text(DUE)), test.build(text(DUE, 9000))];
    const { buffer } = (test.memory.cache.params.hotSet as HotSet).tags;
    buffer.write(0, new Uint32Array(3 * heads * lines).fill(7));
    first.dispose();
    const fork = second.fork();
    expect(fork.slot).toBe(first.slot);
    const tags = new Uint32Array(3 * heads * lines);
    buffer.read(0, tags);
    const slots = [0, 1, 2].map((slot) => tags.subarray(slot * heads * lines, (slot + 1) * heads * lines));
    expect(slots.map((own) => [...new Set(own)])).toEqual([0, 1, 2].map((slot) => [slot === fork.slot ? 0 : 7]));
  });
});

describe("invalid keys", () => {
  it("are counted for each layer and head when their page is committed", () => {
    const test = new TestMemory();
    const { context, memory } = test;
    const { append } = context;
    context.append = (args) => {
      // The first key of the first page of layer 1, head 0 has no norm.
      const { layer, k } = args;
      if (layer === 1) k.buffer.write(ZONES.sinkTokens * k.rowStride * 4, new Float32Array(GEOMETRY.headDim));
      append.call(context, args);
    };
    const sequence = memory.createSequence();
    test.grow(sequence, text(ZONES.chunkTokens));
    context.append = append;
    test.grow(sequence, text(DUE - ZONES.chunkTokens, ZONES.chunkTokens));
    expect([...memory.readInvalidKeys(sequence.slot)]).toEqual([0, 0, 1, 0]);
  });
});

describe("calibration", () => {
  const length = GEOMETRY.layers * GEOMETRY.kvHeads * 2 * GEOMETRY.headDim;

  it("is the identity until another one is written", () => {
    const { memory } = new TestMemory();
    const values = new Float32Array(length);
    memory.cache.params.calibration.buffer.read(0, values);
    const expected = values.map((_, index) => (index % 128 < 64 ? 0 : 1));
    expect(values).toEqual(expected);
    const other = expected.map((value, index) => value + index / 1024);
    memory.writeCalibration(other);
    memory.cache.params.calibration.buffer.read(0, values);
    expect(values).toEqual(other);
  });

  it("is refused where it cannot be used", () => {
    const test = new TestMemory();
    const good = new Float32Array(length).fill(1);
    const write = (change: (values: Float32Array) => void) => () => {
      const values = good.slice();
      change(values);
      test.memory.writeCalibration(values);
    };
    expect(() => test.memory.writeCalibration(good.subarray(1))).toThrow(`to be ${length} values`);
    expect(write((values) => (values[3] = Number.NaN))).toThrow("to be finite where it centres but received NaN");
    for (const balance of [0, -1, Number.POSITIVE_INFINITY]) {
      expect(write((values) => (values[64] = balance))).toThrow("to be positive and finite where it balances");
    }
    expect(write((values) => (values[3] = -2))).not.toThrow();
    const sequence = test.build(text(DUE));
    expect(write(() => {})).toThrow('to be set before the first page is sealed but received "1 sealed pages"');
    sequence.dispose();
    expect(write(() => {})).not.toThrow();
  });
});

describe("budgets", () => {
  it("are written to their slot alone", () => {
    const { memory } = new TestMemory({ slots: 3 });
    const length = GEOMETRY.layers * BUDGET_FIELDS;
    memory.writeBudget(1, new Int32Array(length).fill(5));
    const all = new Int32Array(3 * length);
    memory.cache.params.budget.buffer.read(0, all);
    expect([...all]).toEqual(Array.from({ length: 3 * length }, (_, i) => (Math.floor(i / length) === 1 ? 5 : 0)));
  });

  it("are refused for another slot or length", () => {
    const { memory } = new TestMemory({ slots: 3 });
    const length = GEOMETRY.layers * BUDGET_FIELDS;
    for (const slot of [-1, 3, 0.5])
      expect(() => memory.writeBudget(slot, new Int32Array(length))).toThrow("Expected slot");
    expect(() => memory.writeBudget(0, new Int32Array(length + 1))).toThrow(`Expected values to be ${length} values`);
    expect(() => memory.readInvalidKeys(3)).toThrow("Expected slot to be a whole number from 0 to 2");
  });
});

describe("the constructor", () => {
  it.each([
    ["slots", { slots: 0 }],
    ["slots", { slots: 4097 }],
    ["maxTokens", { maxTokens: 0 }],
    ["maxTokens", { maxTokens: 2 ** 26 + 1 }],
    ["capacityPages", { capacityPages: 0 }],
    ["slabPages", { slabPages: 0 }],
    ["zones.localTokens", { zones: { ...ZONES, localTokens: 0 } }],
    ["layers", { geometry: { ...GEOMETRY, layers: 0 } }],
    ["kvHeads", { geometry: { ...GEOMETRY, kvHeads: 1.5 } }],
    ["queryGroup", { geometry: { ...GEOMETRY, queryGroup: 9 } }],
    ["headDim", { geometry: { ...GEOMETRY, headDim: 64.5 } }],
    ["hotLines", { hotLines: 3 }],
    ["hotLines", { hotLines: 24 }],
    ["hotLines", { hotLines: 16384 }],
    ["kvDtype", { geometry: { ...GEOMETRY, kvDtype: "f64" as "f32" } }],
  ] as [string, Partial<KvMemoryOptions>][])("refuses a wrong %s by name, and leaks nothing", (argument, options) => {
    const context = createContext({ device: "reference" });
    const allocations = trackAllocations(context);
    expect(() => new TestMemory({ ...options, context })).toThrow(InvalidArgumentError);
    expect(() => new TestMemory({ ...options, context })).toThrow(`Expected ${argument} to be`);
    expect(allocations.live.size).toBe(0);
  });

  it("gives back what it took when any allocation fails", () => {
    const context = createContext({ device: "reference" });
    const allocations = trackAllocations(context);
    let failures = 0;
    for (let allowed = 0; ; allowed++) {
      allocations.allowed = allowed;
      try {
        new TestMemory({ context, capacityPages: 1 });
        break;
      } catch (error) {
        expect(error).toBeInstanceOf(OutOfMemoryError);
        failures++;
      }
      if (failures <= 8) expect(allocations.live.size).toBe(0);
    }
    // Page addresses, window and six tables; then the test's own three buffers.
    expect(failures).toBe(8 + 3);
  });
});

describe("dispose", () => {
  it("gives all memory back, and leaves sequences that can only be disposed", () => {
    const context = createContext({ device: "reference" });
    const allocations = trackAllocations(context);
    const test = new TestMemory({ context });
    const sequence = test.build(text(DUE));
    const staging = 3;
    test.memory.dispose();
    test.memory.dispose();
    expect(allocations.live.size).toBe(staging);
    expect(() => test.memory.createSequence()).toThrow(DisposedError);
    expect(() => test.memory.writeBudget(0, new Int32Array(1))).toThrow(DisposedError);
    expect(() => sequence.fork()).toThrow(DisposedError);
    sequence.dispose();
  });

  it("of a sequence aborts what is enqueued and gives its pages back", () => {
    const test = new TestMemory();
    const sequence = test.build(text(DUE + 511));
    test.append(sequence, [DUE + 511]);
    const flush = sequence.beginFlush();
    expect(test.memory.pages.usedPages).toBe(2);
    sequence.dispose();
    expect([flush?.state, test.memory.pages.usedPages, sequence.disposed]).toEqual(["aborted", 0, true]);
    for (const use of [
      () => sequence.prepareAppend(1),
      () => sequence.advance(1),
      () => sequence.beginFlush(),
      () => sequence.flush(),
      () => sequence.fork(),
      () => sequence.requireRoom(0),
    ]) {
      expect(use).toThrow(DisposedError);
    }
  });

  it("of the context first lets everything else be disposed", () => {
    const test = new TestMemory();
    const sequence = test.build(text(DUE));
    test.context.dispose();
    sequence.dispose();
    test.memory.dispose();
  });
});
