import type { Context, Rows, Step, Tape } from "@pariskv/kernels";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeDevices } from "../../kernels/test/support/devices.js";
import type { AttentionRows, Retriever, Sequence } from "../src/index.js";
import { Driver, SEALED, SHAPE } from "./support/drive.js";
import { TokenStream } from "./support/token-stream.js";

const SEED = 1201;
const POLICY = { mode: "auto", topK: 24, candidateShare: 0.1, crossoverTokens: 1000 } as const;
const streams = [0, 1].map((text) => new TokenStream(SHAPE, "bf16", SEALED[1] + 8, SEED + text));

/** All layers of one decode step on a tape, each with buffers of its own. */
class RecordedStep {
  readonly tape: Tape;
  readonly #layers: AttentionRows[];

  constructor(
    readonly retriever: Retriever,
    readonly rowCount: number,
  ) {
    const { context, shape } = retriever;
    const rows = (heads: number): Rows => {
      const rowStride = heads * shape.headDim;
      return { buffer: context.allocate(rowCount * rowStride * 4, "device"), rowStride };
    };
    const { kvHeads, queryHeads } = shape;
    this.#layers = Array.from({ length: shape.layers }, () => ({
      k: rows(kvHeads),
      v: rows(kvHeads),
      q: rows(queryHeads),
      out: rows(queryHeads),
    }));
    const step: Step = retriever.step(rowCount);
    this.tape = context.record(() => {
      for (const [layer, own] of this.#layers.entries()) retriever.queueDecode(layer, step, own);
    });
  }

  /** Decodes the next token of each sequence with one call. */
  run(sequences: readonly Sequence[], texts: readonly TokenStream[]): Float32Array[] {
    this.retriever.beginStep(sequences.map((sequence) => ({ sequence })));
    for (const [layer, rows] of this.#layers.entries()) {
      for (const [row, stream] of texts.entries()) {
        const values = stream.decode(layer, (sequences[row] as Sequence).tokens);
        for (const name of ["q", "k", "v"] as const) {
          rows[name].buffer.write(row * rows[name].rowStride * 4, values[name]);
        }
      }
    }
    this.tape.run();
    this.retriever.endStep();
    return this.#layers.map(({ out }) => {
      const output = new Float32Array(this.rowCount * out.rowStride);
      out.buffer.read(0, output);
      return output;
    });
  }
}

describeDevices(`a tape (seed ${SEED})`, (device) => {
  let context: Context;
  beforeAll(() => {
    context = device.open();
  });
  afterAll(() => context?.dispose());

  it("recorded once stays valid while its sequences grow past flushes, the crossover and their neighbours", () => {
    using driver = new Driver({ kvDtype: "bf16", policy: POLICY, maxSequences: 4 }, context);
    const { retriever } = driver;
    const recorded = new RecordedStep(retriever, 2);
    const taped = [driver.start(streams[0] as TokenStream, 0), driver.start(streams[1] as TokenStream, 530)];
    const twins = [driver.start(streams[0] as TokenStream, 0), driver.start(streams[1] as TokenStream, 530)];
    for (const [first, second] of [
      [0, 531],
      [SEALED[0] - 2, SEALED[1] - 2],
    ] as const) {
      for (const pair of [taped, twins]) {
        driver.prefill(pair[0] as Sequence, streams[0] as TokenStream, first);
        driver.prefill(pair[1] as Sequence, streams[1] as TokenStream, second);
      }
      for (let count = 0; count < 5; count++) {
        const outputs = recorded.run(taped, streams);
        const statistics = retriever.statistics.read();
        expect(outputs).toEqual(driver.decode(twins, streams));
        expect(statistics).toEqual(retriever.statistics.read());
      }
    }
    expect(taped.map((sequence) => sequence.counts.zone)).toEqual([512, 1024]);
    expect(taped.map((sequence) => retriever.mode(sequence, 0))).toEqual(["dense", "vote"]);
  });

  it("of one retriever does not disturb another on the same context", () => {
    const settings = { kvDtype: "bf16", policy: POLICY, maxTokens: 1060 } as const;
    const other = { shape: { ...SHAPE, headDim: 128 }, policy: { mode: "vote", votes: "tiered", topK: 8 } } as const;
    const narrow = streams[0] as TokenStream;
    const wide = new TokenStream(other.shape, "f32", 560, SEED + 5);
    using first = new Driver(settings, context);
    using second = new Driver(other, context);
    using firstAlone = new Driver(settings, context);
    const recorded = new RecordedStep(first.retriever, 1);
    const sequences = [first.start(narrow, SEALED[1] - 2), second.start(wide, SEALED[0] - 2)] as const;
    const alone = firstAlone.start(narrow, SEALED[1] - 2);
    const interleaved: Float32Array[][][] = [[], []];
    for (let count = 0; count < 4; count++) {
      interleaved[0]?.push(recorded.run([sequences[0]], [narrow]));
      interleaved[1]?.push(second.decode([sequences[1]], [wide]));
    }
    for (let count = 0; count < 4; count++) {
      expect(interleaved[0]?.[count]).toEqual(firstAlone.decode([alone], [narrow]));
    }
    using secondAlone = new Driver(other, context);
    const wideAlone = secondAlone.start(wide, SEALED[0] - 2);
    for (let count = 0; count < 4; count++) {
      expect(interleaved[1]?.[count]).toEqual(secondAlone.decode([wideAlone], [wide]));
    }
  });
});
