import { expect, it } from "vitest";
import { describeDevices } from "./support/devices.js";
import { expectSameBits } from "./support/expect-step.js";
import { Random } from "./support/random.js";
import { encodeAs, Scene, upload } from "./support/scene.js";

const SINK_TOKENS = 3;
const RING_TOKENS = 10;
const LAYERS = 2;
const KV_HEADS = 2;

function emptyScene(context: Parameters<typeof upload>[0], kvDtype: "f32" | "bf16" | "f16", headDim: number): Scene {
  return new Scene(context, {
    sequences: Array.from({ length: 3 }, () => ({ zoneTokens: 0, ringUsed: 0 })),
    layers: LAYERS,
    kvHeads: KV_HEADS,
    headDim,
    kvDtype,
    sinkTokens: SINK_TOKENS,
    ringTokens: RING_TOKENS,
  });
}

/** The window's elements as numbers, `[slots, layers, kvHeads, sink + ring, 2, headDim]`. */
function readWindow(scene: Scene): Float32Array | Uint16Array {
  const { headDim, kvDtype } = scene.data.options;
  const length = 3 * LAYERS * KV_HEADS * (SINK_TOKENS + RING_TOKENS) * 2 * headDim;
  return scene.read(scene.window, kvDtype === "f32" ? new Float32Array(length) : new Uint16Array(length));
}

describeDevices("append", (device) => {
  for (const kvDtype of ["f32", "bf16", "f16"] as const) {
    for (const headDim of [64, 128, 256]) {
      it(`rounds K and V to ${kvDtype} and writes them where the ring says, head_dim ${headDim}`, () => {
        using context = device.open();
        const scene = emptyScene(context, kvDtype, headDim);
        const random = new Random(31);
        // Positions in the sink, at the first and last row of the ring, and after two turns; one row is skipped.
        const rows = [
          { slot: 2, position: 0 },
          { slot: 0, position: SINK_TOKENS - 1 },
          { slot: 1, position: SINK_TOKENS },
          { slot: -1, position: 0 },
          { slot: 1, position: SINK_TOKENS + RING_TOKENS - 1 },
          { slot: 0, position: SINK_TOKENS + 2 * RING_TOKENS + 4 },
        ];
        const width = KV_HEADS * headDim;
        const rowStride = width + 5;
        const k = random.normals(rows.length * rowStride);
        const v = random.normals(rows.length * rowStride);
        k.set([Number.NaN, Number.POSITIVE_INFINITY, -0, 1e-40, 70000, -3.4e38]);
        const expected = readWindow(scene);
        const layer = 1;
        const places = [0, SINK_TOKENS - 1, SINK_TOKENS, -1, SINK_TOKENS + RING_TOKENS - 1, SINK_TOKENS + 4];
        for (const [row, { slot }] of rows.entries()) {
          if (slot < 0) continue;
          for (let head = 0; head < KV_HEADS; head++) {
            const window = ((slot * LAYERS + layer) * KV_HEADS + head) * (SINK_TOKENS + RING_TOKENS);
            const at = (window + places[row]!) * 2 * headDim;
            const from = row * rowStride + head * headDim;
            expected.set(encodeAs(kvDtype, k.subarray(from, from + headDim)), at);
            expected.set(encodeAs(kvDtype, v.subarray(from, from + headDim)), at + headDim);
          }
        }
        context.append({
          cache: scene.cache,
          layer,
          step: scene.step(rows),
          k: { buffer: upload(context, k), rowStride },
          v: { buffer: upload(context, v), rowStride },
        });
        expectSameBits("window", readWindow(scene), expected);
      });
    }
  }

  it("lets the rows of one call be consecutive tokens of one sequence", () => {
    using context = device.open();
    const scene = emptyScene(context, "f32", 64);
    const rows = Array.from({ length: 9 }, (_, i) => ({ slot: 1, position: i }));
    const values = new Random(32).normals(rows.length * KV_HEADS * 64);
    const k = { buffer: upload(context, values), rowStride: KV_HEADS * 64 };
    context.append({ cache: scene.cache, layer: 0, step: scene.step(rows), k, v: k });
    const window = readWindow(scene);
    for (const { position } of rows) {
      const at = (LAYERS * KV_HEADS * (SINK_TOKENS + RING_TOKENS) + position) * 128;
      expect(window.subarray(at, at + 64)).toEqual(values.subarray(position * 128, position * 128 + 64));
    }
  });

  it("refuses a layer, a row table and rows that do not fit, and names the argument", () => {
    using context = device.open();
    const scene = emptyScene(context, "f32", 64);
    const buffer = context.allocate(4 * KV_HEADS * 64, "device");
    const args = { cache: scene.cache, layer: 0, step: scene.step([{ slot: 0, position: 0 }]) };
    const k = { buffer, rowStride: KV_HEADS * 64 };
    context.append({ ...args, k, v: k });
    expect(() => context.append({ ...args, layer: LAYERS, k, v: k })).toThrow("Expected layer to be");
    expect(() => context.append({ ...args, k: { buffer, rowStride: 1 }, v: k })).toThrow("Expected k.rowStride to be");
    expect(() => context.append({ ...args, k, v: { ...k, offsetBytes: 4 } })).toThrow("Expected v to be");
    const step = { table: { buffer, offsetBytes: buffer.bytes }, rowCount: 1 };
    expect(() => context.append({ ...args, step, k, v: k })).toThrow("Expected step.table to be");
    expect(() => context.append({ ...args, step: { ...args.step, rowCount: 0 }, k, v: k })).toThrow("step.rowCount");
  });
});
