import { expect, it } from "vitest";
import type { Context } from "../../src/context.js";
import { describeDevices } from "../support/devices.js";
import { expectClose, expectSameBits } from "../support/expect-step.js";
import { attentionOver } from "../support/oracle.js";
import { Random } from "../support/random.js";
import { Scene, upload } from "../support/scene.js";
import { type SceneOptions, sequenceTokens } from "../support/scene-data.js";

const LAYER = 1;
const SLOT = 1;

/** Two slots, the second as asked for: sink of 5, then a zone, then tokens in a ring of 70 rows. */
function sceneOf(context: Context, zoneTokens: number, ringUsed: number, options: Partial<SceneOptions>): Scene {
  const sequences = [
    { zoneTokens: 30, ringUsed: 9 },
    { zoneTokens, ringUsed },
  ];
  return new Scene(context, { sequences, layers: 2, seed: 65, ...options });
}

/** Rows of the step: two of other slots, then the last `rowCount` positions of the slot. */
function attendLast(scene: Scene, rowCount: number, chunk = rowCount) {
  const { context, queryWidth } = scene;
  const last = sequenceTokens(scene.data, SLOT) - 1;
  const own = Array.from({ length: rowCount }, (_, r) => ({ slot: SLOT, position: last - rowCount + 1 + r }));
  const step = scene.step([{ slot: 0, position: 3 }, { slot: -1, position: 0 }, ...own]);
  const rowStride = queryWidth + 4;
  const q = new Random(66).normals((2 + rowCount) * rowStride);
  const out = upload(context, new Float32Array(q.length).fill(7));
  const rows = { q: { buffer: upload(context, q), rowStride }, out: { buffer: out, rowStride } };
  for (let first = 0; first < rowCount; first += chunk) {
    const count = Math.min(chunk, rowCount - first);
    context.attendCausal({ cache: scene.cache, layer: LAYER, step, firstRow: 2 + first, rowCount: count, ...rows });
  }
  return { own, q, rowStride, out: scene.read(out, new Float32Array(q.length)) };
}

/** Compares rows with float64 attention; K and V are exactly what the cache holds, so no dtype needs more tolerance. */
function expectAttention(scene: Scene, { own, q, rowStride, out }: ReturnType<typeof attendLast>): void {
  const { headDim, queryGroup, kvHeads } = scene.data.options;
  // Rows at the ends, where blocks of rows and keys begin and end, and some between.
  const checked = own.map((_, r) => r).filter((r) => r < 2 || r > own.length - 3 || r % 16 === 15);
  for (const r of checked) {
    const positions = Array.from({ length: own[r]!.position + 1 }, (_, position) => position);
    for (let queryHead = 0; queryHead < kvHeads * queryGroup; queryHead++) {
      const at = (2 + r) * rowStride + queryHead * headDim;
      const head = Math.floor(queryHead / queryGroup);
      const place = { slot: SLOT, layer: LAYER, head };
      const { output } = attentionOver(scene.data, place, q.subarray(at, at + headDim), positions);
      // f32 attention of values of about 1 (docs/mathematics.md §7).
      expectClose(`row ${r}, query head ${queryHead}`, out.subarray(at, at + headDim), output, 1e-5);
    }
  }
  const beside = Array.from(out).filter((_, i) => i < 2 * rowStride || i % rowStride >= scene.queryWidth);
  expect(
    beside.every((value) => value === 7),
    "nothing but the rows asked for is written",
  ).toBe(true);
}

describeDevices("attendCausal", (device) => {
  it.each([
    { zoneTokens: 0, ringUsed: 1, rowCount: 6 },
    { zoneTokens: 0, ringUsed: 65, rowCount: 70 },
    { zoneTokens: 1, ringUsed: 40, rowCount: 1 },
    { zoneTokens: 511, ringUsed: 70, rowCount: 70 },
    { zoneTokens: 512, ringUsed: 33, rowCount: 33 },
    { zoneTokens: 513, ringUsed: 69, rowCount: 7 },
    { zoneTokens: 1100, ringUsed: 64, rowCount: 64 },
  ])("attends sink, $zoneTokens tokens in pages and a ring that wraps, $rowCount rows", (shape) => {
    using context = device.open();
    const scene = sceneOf(context, shape.zoneTokens, shape.ringUsed, { headDim: 64, queryGroup: 3 });
    expectAttention(scene, attendLast(scene, shape.rowCount));
  });

  it.each([
    { kvDtype: "f32", headDim: 64, queryGroup: 1, keys: "isotropic" },
    { kvDtype: "f32", headDim: 128, queryGroup: 8, keys: "llm" },
    { kvDtype: "bf16", headDim: 128, queryGroup: 2, keys: "llm" },
    { kvDtype: "bf16", headDim: 256, queryGroup: 7, keys: "ties" },
    { kvDtype: "f16", headDim: 256, queryGroup: 4, keys: "isotropic" },
    { kvDtype: "f16", headDim: 64, queryGroup: 5, keys: "invalid" },
    { kvDtype: "f32", headDim: 128, queryGroup: 2, keys: "invalid" },
    { kvDtype: "bf16", headDim: 64, queryGroup: 6, keys: "invalid" },
  ] as const)("takes $kvDtype records of $headDim, groups of $queryGroup, $keys keys", (options) => {
    using context = device.open();
    const scene = sceneOf(context, 200, 45, options);
    expectAttention(scene, attendLast(scene, 45));
  });

  it("gives the same bits in chunks and with other threads", (ctx) => {
    ctx.skip(device.name === "cuda", "on CUDA a row may depend on its chunk, within the tolerance above");
    const run = (threads: number, chunk: number) => {
      using context = device.open({ threads });
      return attendLast(sceneOf(context, 300, 70, { headDim: 64, queryGroup: 3 }), 70, chunk).out;
    };
    const alone = run(1, 1);
    for (const [threads, chunk] of [
      [1, 70],
      [2, 70],
      [2, 33],
      [3, 5],
    ] as const) {
      expectSameBits(`${threads} threads, chunks of ${chunk}`, run(threads, chunk), alone);
    }
  });

  it("lets a value that is not finite reach the rows that see it and no others", () => {
    using context = device.open();
    const scene = sceneOf(context, 0, 60, { headDim: 64, queryGroup: 2, kvDtype: "f32" });
    const { headDim, sinkTokens, ringTokens, kvHeads } = scene.data.options;
    const position = 40;
    const record = ((SLOT * 2 + LAYER) * kvHeads + 1) * (sinkTokens + ringTokens) + position;
    scene.window.write(4 * ((record * 2 + 1) * headDim + 9), Float32Array.of(Number.NaN));
    const { own, out, rowStride } = attendLast(scene, 65);
    for (const [r, row] of own.entries()) {
      const values = out.subarray((2 + r) * rowStride, (2 + r) * rowStride + scene.queryWidth);
      const found = Array.from(values.keys()).filter((i) => Number.isNaN(values[i]!));
      // Element 9 of both query heads of KV head 1.
      const expected = row.position < position ? [] : [2 * headDim + 9, 3 * headDim + 9];
      expect(found, `position ${row.position}`).toEqual(expected);
    }
  });

  it("writes zeros for rows of slot -1", () => {
    using context = device.open();
    const scene = sceneOf(context, 0, 4, { headDim: 64 });
    const rows = [{ slot: -1, position: 0 }];
    const out = upload(context, new Float32Array(scene.queryWidth).fill(7));
    context.attendCausal({
      cache: scene.cache,
      layer: LAYER,
      step: scene.step(rows),
      firstRow: 0,
      rowCount: 1,
      q: scene.queries(LAYER, rows),
      out: { buffer: out, rowStride: scene.queryWidth },
    });
    expect(scene.read(out, new Float32Array(scene.queryWidth))).toEqual(new Float32Array(scene.queryWidth));
  });
});
