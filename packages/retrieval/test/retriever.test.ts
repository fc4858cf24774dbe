import { createContext, type Rows } from "@pariskv/kernels";
import { DisposedError, InvalidArgumentError, OutOfMemoryError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import type { AttentionRows, Mode, Sequence } from "../src/index.js";
import { Driver, SEALED, SHAPE, ZONES } from "./support/drive.js";
import { TokenStream } from "./support/token-stream.js";

const SEED = 1811;
const POLICY = { mode: "vote", topK: 20, candidateShare: 0.1 } as const;
const stream = new TokenStream(SHAPE, "f32", SEALED[1] + 40, SEED);
const other = new TokenStream(SHAPE, "f32", SEALED[1] + 40, SEED + 1);

/** A stream that is `first` up to a position and `second` from it on. */
function joined(first: TokenStream, second: TokenStream, position: number): TokenStream {
  const text = new TokenStream(SHAPE, "f32", 0, 0);
  const join = (name: "k" | "v" | "q") =>
    first[name].map((values, layer) => {
      const at = (values.length / first.tokens) * position;
      const mixed = (second[name][layer] as Float32Array).slice();
      mixed.set(values.subarray(0, at));
      return mixed;
    });
  return Object.assign(text, { tokens: first.tokens, k: join("k"), v: join("v"), q: join("q") });
}

describe(`a fork (seed ${SEED})`, () => {
  it.each([
    2,
    ZONES.sinkTokens,
    300,
    SEALED[0] - 1,
    SEALED[0],
    SEALED[0] + 1,
    ZONES.sinkTokens + 1024,
    SEALED[1] - 1,
    SEALED[1],
  ])("at %d tokens of a longer parent attends as a sequence that was built alone", (length) => {
    using driver = new Driver({ policy: POLICY, maxSequences: 3 });
    const parent = driver.start(stream, SEALED[1] + 20);
    const child = parent.fork(length);
    const text = joined(stream, other, length);
    const alone = driver.start(text, length);
    expect(child.counts).toEqual(alone.counts);
    for (let count = 0; count < 3; count++) {
      expect(driver.decode([child], [text])).toEqual(driver.decode([alone], [text]));
    }
    const twin = driver.retriever.memory;
    expect(twin.pages.usedPages).toBe(2 + alone.memory.pages.length + (child.counts.zone - parentShare(length)) / 512);
    child.dispose();
    // The parent still decodes its own text.
    const control = parent.fork();
    expect(driver.decode([parent], [stream])).toEqual(driver.decode([control], [stream]));
  });

  /** Tokens of the prefix that are in pages of the parent. */
  function parentShare(length: number): number {
    return 512 * SEALED.filter((sealed) => length >= sealed).length;
  }

  it("keeps its pages when its parent goes, and the pool gets all back in any order", () => {
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
      [1, 2, 0],
    ]) {
      using driver = new Driver({ policy: POLICY, maxSequences: 4 });
      const parent = driver.start(stream, SEALED[1]);
      const family = [parent, parent.fork(), parent.fork(SEALED[0])];
      const expected = driver.start(stream, SEALED[0]);
      const output = driver.decode([expected], [stream]);
      expected.dispose();
      for (const [turn, index] of order.entries()) {
        const last = turn === 2 ? (family[index] as Sequence).fork(SEALED[0]) : undefined;
        if (last) expect(driver.decode([last], [stream])).toEqual(output);
        last?.dispose();
        (family[index] as Sequence).dispose();
      }
      expect([driver.retriever.memory.pages.usedPages, driver.retriever.memory.freeSlots]).toEqual([0, 4]);
    }
  });
});

describe(`a step (seed ${SEED})`, () => {
  it("that is aborted leaves no trace: the next one gives what it would have given", () => {
    using driver = new Driver({ policy: POLICY, maxSequences: 2 });
    const sequence = driver.start(stream, SEALED[0] - 1);
    const twin = sequence.fork();
    const width = SHAPE.kvHeads * SHAPE.headDim;
    expect(() =>
      driver.steps.decode([sequence], (layer) => {
        if (layer === 1) throw new Error("stop");
        const garbage = new Float32Array(width).fill(9);
        return { q: new Float32Array(2 * width), k: garbage, v: garbage };
      }),
    ).toThrow("stop");
    expect(sequence.tokens).toBe(SEALED[0] - 1);
    for (let count = 0; count < 3; count++) {
      expect(driver.decode([sequence], [stream])).toEqual(driver.decode([twin], [stream]));
    }
  });

  it("that fails at a full pool is refused before it begins, for all of its sequences", () => {
    using driver = new Driver({ policy: POLICY, maxSequences: 2, capacityPages: 1 });
    const pair = [driver.start(stream, SEALED[0] - 1), driver.start(other, SEALED[0] - 1)];
    // Each alone would have its page, both have not.
    expect(() => driver.decode(pair, [stream, other])).toThrow(OutOfMemoryError);
    expect(pair.map((sequence) => sequence.tokens)).toEqual([SEALED[0] - 1, SEALED[0] - 1]);
    driver.decode([pair[0] as Sequence], [stream]);
    expect(pair[0]?.counts.zone).toBe(512);
    pair[0]?.dispose();
    driver.decode([pair[1] as Sequence], [other]);
    expect(pair[1]?.counts.zone).toBe(512);
  });

  it("whose page finds no memory keeps its tokens, and the next step seals it", () => {
    using driver = new Driver({ policy: POLICY, maxSequences: 2 });
    const { context } = driver.retriever;
    const sequence = driver.start(stream, SEALED[0] - 1);
    const twin = sequence.fork();
    const { allocate } = context;
    context.allocate = () => {
      throw new OutOfMemoryError({ kind: "device", requestedBytes: 1, availableBytes: 0 });
    };
    expect(() => driver.decode([sequence], [stream])).toThrow(OutOfMemoryError);
    expect(sequence.counts).toEqual({ sink: 5, zone: 0, ring: 528 });
    expect(() => driver.decode([sequence], [stream])).toThrow(OutOfMemoryError);
    expect(sequence.tokens).toBe(SEALED[0]);
    context.allocate = allocate;
    driver.decode([twin], [stream]);
    expect(driver.decode([sequence], [stream])).toEqual(driver.decode([twin], [stream]));
    expect(sequence.counts.zone).toBe(512);
    expect(driver.retriever.mode(sequence, 0)).toBe("vote");
  });

  it("leaves out a sequence that is disposed on the way", () => {
    using driver = new Driver({ policy: POLICY, maxSequences: 3 });
    const pair = [driver.start(stream, 100), driver.start(other, 100)] as const;
    const control = pair[1].fork();
    driver.retriever.beginStep([{ sequence: pair[0] }, { sequence: pair[1] }]);
    pair[0].dispose();
    driver.retriever.abortStep();
    driver.steps.decode([pair[1], driver.start(stream, 50)], (layer) => {
      const rows = [other.decode(layer, 100), stream.decode(layer, 50)];
      const join = (name: "q" | "k" | "v") => Float32Array.from(rows.flatMap((row) => [...row[name]]));
      return { q: join("q"), k: join("k"), v: join("v") };
    });
    expect(pair[1].tokens).toBe(101);
    driver.retriever.beginStep([{ sequence: pair[1] }, { sequence: control }]);
    control.dispose();
    driver.retriever.endStep();
    expect(pair[1].tokens).toBe(102);
  });

  it("is refused with what is wrong, and none is begun", () => {
    using driver = new Driver({ policy: POLICY, maxSequences: 2 });
    using stranger = new Driver({ policy: POLICY });
    const { retriever } = driver;
    const [first, second] = [driver.start(stream, 10), driver.start(other, 10)];
    const foreign = stranger.start(stream, 10);
    const refused: [string, () => unknown][] = [
      ["Expected entries.length to be a whole number from 1 to 2 but received 0.", () => retriever.beginStep([])],
      [
        'Expected entries to be different sequences but received "one of them twice".',
        () => retriever.beginStep([{ sequence: first }, { sequence: first }]),
      ],
      ["Expected entries to be sequences of this retriever", () => retriever.beginStep([{ sequence: foreign }])],
      [
        "Expected entries.length to be a whole number from 1 to 1 but received 2.",
        () => retriever.beginStep([{ sequence: first, tokens: 2 }, { sequence: second }]),
      ],
      [
        "Expected count to be a whole number from 1 to 64",
        () => retriever.beginStep([{ sequence: first, tokens: 65 }]),
      ],
      ["Expected count to be a whole number from 1 to 64", () => retriever.beginStep([{ sequence: first, tokens: 0 }])],
      ["Expected rowCount to be a whole number from 1 to 64", () => retriever.step(65)],
      ["Expected the step to be begun before it ends", () => retriever.endStep()],
    ];
    for (const [message, call] of refused) {
      expect(call).toThrow(InvalidArgumentError);
      expect(call).toThrow(message);
    }
    retriever.beginStep([{ sequence: first }, { sequence: second }]);
    expect(() => retriever.beginStep([{ sequence: first }])).toThrow(
      "Expected the step to be ended before the next begins",
    );
    retriever.abortStep();
    retriever.abortStep();
    first.dispose();
    expect(() => retriever.beginStep([{ sequence: first }])).toThrow(DisposedError);
    expect(second.tokens).toBe(10);
  });

  it("of more rows than the plan has is refused where it is queued", () => {
    using driver = new Driver({ policy: POLICY });
    const { retriever } = driver;
    const rows = (heads: number): Rows => {
      const rowStride = heads * SHAPE.headDim;
      return { buffer: retriever.context.allocate(2 * rowStride * 4, "device"), rowStride };
    };
    const all: AttentionRows = { k: rows(2), v: rows(2), q: rows(4), out: rows(4) };
    expect(() => retriever.queueDecode(0, retriever.step(2), all)).toThrow("step.rowCount");
  });
});

describe("sequences", () => {
  it("are as many as asked for", () => {
    using driver = new Driver({ maxSequences: 2 });
    const first = driver.retriever.createSequence();
    driver.retriever.createSequence();
    expect(() => driver.retriever.createSequence()).toThrow(OutOfMemoryError);
    expect(() => first.fork()).toThrow(OutOfMemoryError);
    first.dispose();
    first.dispose();
    expect(driver.retriever.createSequence().tokens).toBe(0);
  });

  it("end at maxTokens, and a prefill that would pass it appends nothing", () => {
    using driver = new Driver({ maxTokens: 600, policy: POLICY });
    const sequence = driver.start(stream, 500);
    expect(() => driver.prefill(sequence, stream, 601)).toThrow("at most 600 tokens long but received 601.");
    expect(sequence.tokens).toBe(500);
    driver.prefill(sequence, stream, 600);
    expect(() => driver.decode([sequence], [stream])).toThrow("at most 600 tokens long but received 601.");
    expect(sequence.tokens).toBe(600);
  });

  it("are not prefilled in part when the pool is too small", () => {
    using driver = new Driver({ capacityPages: 1, policy: POLICY });
    const sequence = driver.start(stream, 100);
    expect(() => driver.prefill(sequence, stream, SEALED[1])).toThrow(OutOfMemoryError);
    expect(sequence.tokens).toBe(100);
  });

  it("refuse arrays of another length, and numbers of tokens that are none", () => {
    using driver = new Driver();
    const sequence = driver.start(stream, 10);
    const { k, v } = stream.prefill(0, 10, 12);
    expect(() => driver.steps.prefill(sequence, 3, () => ({ k, v }))).toThrow(
      "Expected k to be a Float32Array of 384 elements but received Float32Array of 256 elements.",
    );
    for (const tokens of [-1, 1.5, Number.NaN]) {
      expect(() => driver.steps.prefill(sequence, tokens, () => ({ k, v }))).toThrow(
        "Expected tokens to be a whole number",
      );
    }
    const row = stream.decode(0, 10);
    for (const name of ["q", "k", "v"] as const) {
      const wrong = { ...row, [name]: new Float32Array(1) };
      expect(() => driver.steps.decode([sequence], () => wrong)).toThrow(`Expected ${name} to be a Float32Array of`);
    }
    expect(() => driver.steps.decode([sequence], () => ({ ...row, q: [] as unknown as Float32Array }))).toThrow(
      "received an array of 0 elements",
    );
    expect(sequence.tokens).toBe(10);
  });
});

describe("a sequence's mode", () => {
  it("is one of four, and set between steps", () => {
    using driver = new Driver({ policy: { ...POLICY, mode: "scan" }, maxSequences: 2 });
    const sequence = driver.start(stream, 10);
    const bystander = driver.start(other, 10);
    expect(() => (sequence.mode = "fast" as Mode)).toThrow("Expected mode to be one of policy, dense, scan, vote");
    driver.retriever.beginStep([{ sequence }]);
    expect(() => (sequence.mode = "dense")).toThrow("Expected mode to be set between two steps");
    bystander.mode = "dense";
    driver.retriever.abortStep();
    sequence.mode = "vote";
    expect([sequence.mode, bystander.mode]).toEqual(["vote", "dense"]);
    sequence.dispose();
    expect(() => (sequence.mode = "dense")).toThrow(DisposedError);
  });

  it("is no scan where the plan has no room for every key", () => {
    using driver = new Driver({ policy: POLICY, maxTokens: 2048 });
    const sequence = driver.retriever.createSequence();
    expect(() => (sequence.mode = "scan")).toThrow(
      'Expected mode to be "policy", "dense" or "vote", because "scan" takes up to 1536 candidates and the plan holds ' +
        '205, but received "scan".',
    );
    expect(sequence.mode).toBe("policy");
  });

  it.each([
    ["a layer scans", { ...POLICY, layers: { 1: { mode: "scan" } } }],
    ["every key is a candidate", { ...POLICY, candidateShare: 1 }],
  ] as const)("may be a scan where %s", (_, policy) => {
    using driver = new Driver({ policy });
    const sequence = driver.start(stream, SEALED[0]);
    sequence.mode = "scan";
    driver.decode([sequence], [stream]);
    expect(driver.retriever.statistics.read()[0]?.layers.map((layer) => layer.candidates)).toEqual([1024, 1024]);
  });

  it("is no search where every layer is dense by policy", () => {
    using driver = new Driver({ policy: { mode: "auto", layers: { 0: { mode: "dense" }, 1: { mode: "dense" } } } });
    const sequence = driver.retriever.createSequence();
    expect(() => (sequence.mode = "vote")).toThrow("because every layer is dense by policy");
    sequence.mode = "dense";
  });
});

describe("dispose", () => {
  it("ends the retriever, once, in any order with its parts", () => {
    const context = createContext({ device: "reference" });
    const driver = new Driver({ policy: POLICY }, context);
    const { retriever, steps } = driver;
    const sequence = driver.start(stream, SEALED[0]);
    retriever.dispose();
    retriever.dispose();
    for (const use of [
      () => retriever.createSequence(),
      () => retriever.step(1),
      () => retriever.beginStep([{ sequence }]),
      () => retriever.endStep(),
      () => sequence.fork(),
      () => (sequence.mode = "dense"),
      () => retriever.statistics.read(),
    ]) {
      expect(use).toThrow(DisposedError);
    }
    steps.dispose();
    steps.dispose();
    sequence.dispose();
    // A shared context is its owner's.
    expect(context.allocate(8, "device").bytes).toBe(8);
    context.dispose();
  });

  it("may come after the context's", () => {
    const context = createContext({ device: "reference" });
    const driver = new Driver({ policy: POLICY }, context);
    const sequence = driver.start(stream, 20);
    context.dispose();
    expect(() => driver.decode([sequence], [stream])).toThrow(DisposedError);
    driver.dispose();
    sequence.dispose();
  });
});
