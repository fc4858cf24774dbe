import type { Context } from "@pariskv/kernels";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeDevices } from "../../kernels/test/support/devices.js";
import type { RowStatistics, Sequence } from "../src/index.js";
import { Driver, largestDifference, SEALED } from "./support/drive.js";
import { TokenStream } from "./support/token-stream.js";

const SHAPE = { layers: 2, queryHeads: 2, kvHeads: 1, headDim: 64 };
const SEED = 733;
/** Ragged: empty, inside the sink, below the first page, around both seals, far beyond; from three texts. */
const LENGTHS = [0, 3, 5, 400, 532, 533, 534, 800, 1044, 1045, 1300];
const ROWS = Array.from({ length: 33 }, (_, row) => ({
  length: LENGTHS[row % LENGTHS.length] as number,
  text: row % 3,
}));

describeDevices(`a ragged batch (seed ${SEED})`, (device) => {
  const texts = [0, 1, 2].map((text) => new TokenStream(SHAPE, "f32", 1310, SEED + text));
  const streams = ROWS.map(({ text }) => texts[text] as TokenStream);
  const alone: { outputs: Float32Array[]; statistics: RowStatistics | undefined }[] = [];
  let context: Context;
  let driver: Driver;
  let sequences: Sequence[];

  beforeAll(() => {
    context = device.open();
    const policy = { mode: "vote", topK: 16, candidateShare: 0.1 } as const;
    driver = new Driver({ shape: SHAPE, policy, maxTokens: 1310, maxSequences: 66 }, context);
    sequences = ROWS.map(({ length }, row) => driver.start(streams[row] as TokenStream, length));
    for (const [row, sequence] of sequences.entries()) {
      using fork = sequence.fork();
      const outputs = driver.decode([fork], [streams[row] as TokenStream]);
      alone.push({ outputs, statistics: driver.retriever.statistics.read()[0] });
    }
  });
  afterAll(() => {
    driver?.dispose();
    context?.dispose();
  });

  it.each([1, 2, 8, 33])("of %d sequences gives each what it gets alone", (size) => {
    // The last rows, so that slots and rows differ.
    const first = ROWS.length - size;
    const batch = sequences.slice(first).map((sequence) => sequence.fork());
    const outputs = driver.decode(batch, streams.slice(first));
    const statistics = driver.retriever.statistics.read();
    expect(statistics.length).toBe(size);
    const width = SHAPE.queryHeads * SHAPE.headDim;
    for (let row = 0; row < size; row++) {
      const single = alone[first + row];
      for (let layer = 0; layer < SHAPE.layers; layer++) {
        const own = outputs[layer]?.subarray(row * width, (row + 1) * width) as Float32Array;
        // The same numbers in the same order, except where threads split a row otherwise.
        expect(largestDifference(own, single?.outputs[layer] as Float32Array)).toBeLessThan(1e-6);
      }
      expect(statistics[row]?.tokens).toEqual(single?.statistics?.tokens);
      expect(statistics[row]?.readShare).toBe(single?.statistics?.readShare);
    }
    for (const sequence of batch) sequence.dispose();
  });

  it("in which pages are sealed leaves its neighbours alone", () => {
    // 532 seals with this token, 1044 as well; 400 and 800 do not.
    const rows = [3, 4, 7, 8];
    const batch = rows.map((row) => (sequences[row] as Sequence).fork());
    const own = rows.map((row) => streams[row] as TokenStream);
    driver.decode(batch, own);
    expect(batch.map((sequence) => sequence.counts.zone)).toEqual([0, 512, 512, 1024]);
    const outputs = driver.decode(batch, own);
    const width = SHAPE.queryHeads * SHAPE.headDim;
    for (const [index, row] of rows.entries()) {
      const single = (sequences[row] as Sequence).fork();
      driver.decode([single], [own[index] as TokenStream]);
      const expected = driver.decode([single], [own[index] as TokenStream]);
      for (let layer = 0; layer < SHAPE.layers; layer++) {
        const found = outputs[layer]?.subarray(index * width, (index + 1) * width) as Float32Array;
        expect(largestDifference(found, expected[layer] as Float32Array)).toBeLessThan(1e-6);
      }
      single.dispose();
    }
    expect(SEALED).toEqual([533, 1045]);
    for (const sequence of batch) sequence.dispose();
  });
});
