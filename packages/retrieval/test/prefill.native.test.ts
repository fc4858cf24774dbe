import type { Context, DeviceBuffer, Rows } from "@pariskv/kernels";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeDevices } from "../../kernels/test/support/devices.js";
import type { Retriever, Sequence } from "../src/index.js";
import { Driver, largestDifference, SEALED, SHAPE, ZONES } from "./support/drive.js";
import { Oracle } from "./support/oracle.js";
import { TokenStream } from "./support/token-stream.js";

const SEED = 811;
const POLICY = { mode: "vote", topK: 24, candidateShare: 0.1 } as const;
const stream = new TokenStream(SHAPE, "bf16", SEALED[1] + 80, SEED);
const oracle = new Oracle(stream, ZONES, "graded", "max");

/** Runs one prefill step of `tokens` tokens through queuePrefill; returns the outputs of each layer. */
function prefillAttending(retriever: Retriever, sequence: Sequence, tokens: number): Float32Array[] {
  const { context, shape } = retriever;
  const buffers: DeviceBuffer[] = [];
  const upload = (values: Float32Array, heads: number): Rows => {
    const buffer = context.allocate(values.byteLength, "device");
    buffers.push(buffer);
    buffer.write(0, values);
    return { buffer, rowStride: heads * shape.headDim };
  };
  const first = sequence.tokens;
  const step = retriever.beginStep([{ sequence, tokens }]);
  const outputs = Array.from({ length: shape.layers }, (_, layer) => {
    const { k, v } = stream.prefill(layer, first, first + tokens);
    const width = shape.queryHeads * shape.headDim;
    const q = (stream.q[layer] as Float32Array).slice(first * width, (first + tokens) * width);
    const out = upload(new Float32Array(tokens * width), shape.queryHeads);
    retriever.queuePrefill(layer, step, {
      q: upload(q, shape.queryHeads),
      k: upload(k, shape.kvHeads),
      v: upload(v, shape.kvHeads),
      out,
    });
    const output = new Float32Array(tokens * width);
    out.buffer.read(0, output);
    return output;
  });
  retriever.endStep();
  for (const buffer of buffers) buffer.dispose();
  return outputs;
}

describeDevices(`prefill (seed ${SEED})`, (device) => {
  let context: Context;
  beforeAll(() => {
    context = device.open();
  });
  afterAll(() => context?.dispose());

  it("in chunks of any size leaves the sequence that decoding token by token leaves", () => {
    using driver = new Driver({ kvDtype: "bf16", policy: POLICY, maxSequences: 4 }, context);
    const length = SEALED[0] + 30;
    const chunked = driver.start(stream, length);
    const byToken = driver.start(stream, 0);
    while (byToken.tokens < length) driver.decode([byToken], [stream]);
    const mixed = driver.start(stream, 300);
    while (mixed.tokens < 310) driver.decode([mixed], [stream]);
    for (let end = 317; mixed.tokens < length; end += 7) driver.prefill(mixed, stream, Math.min(end, length));
    const outputs = [chunked, byToken, mixed].map((sequence) => {
      expect(sequence.counts).toEqual({ sink: 5, zone: 512, ring: length - 517 });
      return driver.decode([sequence], [stream]);
    });
    expect(outputs[1]).toEqual(outputs[0]);
    expect(outputs[2]).toEqual(outputs[0]);
  });

  it("attends every position to exactly those before it, across sink, pages and ring", () => {
    using driver = new Driver({ kvDtype: "bf16", policy: POLICY }, context);
    const sequence = driver.start(stream, 0);
    const width = SHAPE.queryHeads * SHAPE.headDim;
    // Each chunk is followed by a jump to the next place of interest: the start, the seals, the ring's wrap.
    for (const begin of [0, SEALED[0] - 20, ZONES.sinkTokens + 634, SEALED[1] - 10, SEALED[1] + 25]) {
      driver.prefill(sequence, stream, Math.max(begin, sequence.tokens));
      const outputs = prefillAttending(driver.retriever, sequence, 30);
      for (const row of [0, 1, 4, 5, 19, 20, 29]) {
        for (let layer = 0; layer < SHAPE.layers; layer++) {
          const expected = oracle.decode(layer, begin + row, { mode: "dense" }).output;
          const output = outputs[layer]?.subarray(row * width, (row + 1) * width) as Float32Array;
          expect(largestDifference(output, expected), `row ${row} from ${begin}, layer ${layer}`).toBeLessThan(2e-3);
        }
      }
    }
  });

  it("of no token changes nothing", () => {
    using driver = new Driver({ kvDtype: "bf16", policy: POLICY, maxSequences: 2 }, context);
    const sequence = driver.start(stream, 600);
    const twin = sequence.fork();
    driver.prefill(sequence, stream, 600);
    expect(sequence.tokens).toBe(600);
    expect(driver.decode([sequence], [stream])).toEqual(driver.decode([twin], [stream]));
  });
});
