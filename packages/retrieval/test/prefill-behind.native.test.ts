import type { Context } from "@pariskv/kernels";
import { OutOfMemoryError } from "@pariskv/quantizer";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeDevices } from "../../kernels/test/support/devices.js";
import type { Sequence } from "../src/index.js";
import { Driver, largestDifference, SEALED, SHAPE, ZONES } from "./support/drive.js";
import { TokenStream } from "./support/token-stream.js";

const SEED = 1259;
const POLICY = { mode: "vote", topK: 24, candidateShare: 0.1 } as const;
const LENGTH = SEALED[1] + 200;
const stream = new TokenStream(SHAPE, "bf16", LENGTH + 10, SEED);
const { chunkTokens } = ZONES;

/**
 * Prefills up to `end` chunk by chunk with one tape, as a decoder does: another chunk follows each but the last. Returns
 * the attention of the last layer, `[tokens, queryHeads, headDim]`.
 */
function prefillBehind(driver: Driver, sequence: Sequence, end: number, onChunk: () => void = () => {}): Float32Array {
  const { retriever } = driver;
  const { context } = retriever;
  const { layers, kvHeads, queryHeads, headDim } = SHAPE;
  const rows = (heads: number) => {
    const rowStride = heads * headDim;
    return { buffer: context.allocate(chunkTokens * rowStride * 4, "device"), rowStride };
  };
  const all = Array.from({ length: layers }, () => ({
    k: rows(kvHeads),
    v: rows(kvHeads),
    q: rows(queryHeads),
    out: rows(queryHeads),
  }));
  const width = queryHeads * headDim;
  const outputs = new Float32Array((end - sequence.tokens) * width);
  const begin = sequence.tokens;
  for (let first = begin; first < end; first += chunkTokens) {
    const tokens = Math.min(chunkTokens, end - first);
    const step = retriever.beginStep([{ sequence, tokens, more: first + tokens < end }]);
    for (const [layer, { k, v, q }] of all.entries()) {
      const arrays = stream.prefill(layer, first, first + tokens);
      k.buffer.write(0, arrays.k);
      v.buffer.write(0, arrays.v);
      q.buffer.write(0, (stream.q[layer] as Float32Array).slice(first * width, (first + tokens) * width));
    }
    const tape = context.record(() => {
      for (const [layer, arrays] of all.entries()) retriever.queuePrefill(layer, step, arrays);
    });
    tape.run();
    tape.dispose();
    all.at(-1)?.out.buffer.read(0, outputs.subarray((first - begin) * width, (first - begin + tokens) * width));
    retriever.endStep();
    onChunk();
  }
  for (const arrays of all) for (const { buffer } of Object.values(arrays)) buffer.dispose();
  return outputs;
}

describeDevices(`prefill whose pages are sealed behind the next chunk (seed ${SEED})`, (device) => {
  let context: Context;
  beforeAll(() => {
    context = device.open();
  });
  afterAll(() => context?.dispose());

  it("leaves the sequence that prefill at once leaves, and attends as it does", () => {
    using driver = new Driver({ kvDtype: "bf16", policy: POLICY, maxSequences: 3 }, context);
    const [behind, plain] = [driver.start(stream, 0), driver.start(stream, 0)];
    const pending: number[] = [];
    const outputs = prefillBehind(driver, behind, LENGTH, () => pending.push(behind.memory.pending.length));
    // A page is on its way while one chunk runs, and after the last chunk none is.
    expect(pending.filter((count) => count > 0)).toEqual([1, 1]);
    expect(pending.at(-1)).toBe(0);
    driver.prefill(plain, stream, LENGTH);
    expect(behind.counts).toEqual(plain.counts);
    expect(driver.decode([behind], [stream])).toEqual(driver.decode([plain], [stream]));
    // The same tokens, read from the ring or from a page: only the order of the sums may differ.
    const again = driver.start(stream, 0);
    plain.dispose();
    const each = new Float32Array(outputs.length);
    for (let first = 0; first < LENGTH; first += chunkTokens) {
      const end = Math.min(first + chunkTokens, LENGTH);
      each.set(prefillBehind(driver, again, end), (first * each.length) / LENGTH);
    }
    expect(largestDifference(outputs, each)).toBeLessThan(1e-5);
  });

  it("is sealed by whatever comes between: a decode step, a fork, a prefill that was cut short", () => {
    using driver = new Driver({ kvDtype: "bf16", policy: POLICY, maxSequences: 4 }, context);
    const cut = (): Sequence => {
      const sequence = driver.start(stream, 0);
      const stop = new Error("stop");
      const stopInFlight = () => {
        if (sequence.memory.pending.length > 0) throw stop;
      };
      expect(() => prefillBehind(driver, sequence, LENGTH, stopInFlight)).toThrow(stop);
      return sequence;
    };
    const sequence = cut();
    const { tokens } = sequence;
    expect(sequence.counts.zone).toBe(0);
    const fork = sequence.fork();
    expect([sequence.counts.zone, fork.counts.zone]).toEqual([512, 512]);
    const plain = driver.start(stream, tokens);
    const expected = driver.decode([plain], [stream]);
    plain.dispose();
    expect(driver.decode([fork], [stream])).toEqual(expected);
    fork.dispose();
    const decoded = cut();
    expect(driver.decode([decoded], [stream])).toEqual(expected);
    const given = cut();
    given.dispose();
    expect(driver.retriever.memory.pages.usedPages).toBe(2);
  });

  it("that finds no memory midway says so, keeps its tokens, and goes on when there is some", () => {
    using driver = new Driver({ kvDtype: "bf16", policy: POLICY, maxSequences: 2 }, context);
    const sequence = driver.start(stream, 0);
    const { allocate } = context;
    let refusals = 0;
    const failing = () => {
      prefillBehind(driver, sequence, SEALED[0] + 1, () => {
        if (sequence.tokens < SEALED[0] - chunkTokens) return;
        context.allocate = (bytes, kind) => {
          refusals++;
          throw new OutOfMemoryError({ kind, requestedBytes: bytes, availableBytes: 0 });
        };
      });
    };
    try {
      expect(failing).toThrow(OutOfMemoryError);
    } finally {
      context.allocate = allocate;
    }
    expect(refusals).toBe(1);
    expect([sequence.tokens, sequence.counts.zone]).toEqual([SEALED[0] + 1, 0]);
    expect(driver.retriever.memory.pages.usedPages).toBe(0);
    prefillBehind(driver, sequence, LENGTH);
    const plain = driver.start(stream, LENGTH);
    expect(driver.decode([sequence], [stream])).toEqual(driver.decode([plain], [stream]));
  });
});
