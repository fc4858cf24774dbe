import { expect, it } from "vitest";
import type { Dtype } from "../src/context.js";
import { STATS, STATS_FIELDS } from "../src/layout.js";
import { describeDevices } from "./support/devices.js";
import { expectClose, expectSameBits, readStep, rowOf } from "./support/expect-step.js";
import { attentionOver } from "./support/oracle.js";
import { Random } from "./support/random.js";
import { type RowPlace, Scene, upload } from "./support/scene.js";
import { createSceneData, recordIndex, type SceneData, type SceneOptions } from "./support/scene-data.js";

const KV_HEADS = 2;

/** Selects the given zone tokens for every (row, KV head) and attends; returns `[rows, queryHeads, headDim] f32`. */
function attendTo(
  scene: Scene,
  selected: readonly number[],
  rows: readonly RowPlace[] = scene.rows,
  queries: Float32Array = concatenated(rows.map(({ slot }) => scene.queryValues(0, slot))),
): Float32Array {
  const { maxRows, maxTopK } = scene.plan.params;
  const keys = new Uint32Array(maxRows * KV_HEADS * maxTopK);
  for (let entry = 0; entry < maxRows * KV_HEADS; entry++) keys.set(selected, entry * maxTopK);
  for (const [name, values] of [
    ["selected", keys],
    ["selectedCount", new Int32Array(maxRows * KV_HEADS).fill(selected.length)],
  ] as const) {
    const { buffer, offsetBytes = 0 } = scene.plan.field(name);
    buffer.write(offsetBytes, values);
  }
  const rowStride = scene.queryWidth;
  const q = { buffer: upload(scene.context, queries), rowStride };
  scene.context.attend({
    plan: scene.plan,
    layer: 0,
    step: scene.step(rows),
    q,
    out: { buffer: scene.out, rowStride },
  });
  return scene.read(scene.out, new Float32Array(rows.length * rowStride));
}

function concatenated(parts: readonly Float32Array[]): Float32Array {
  return Float32Array.from(parts.flatMap((part) => Array.from(part)));
}

/** Compares one row with the float64 oracle over the positions that it sees. */
function expectRow(
  scene: Scene,
  out: Float32Array,
  row: number,
  { slot, position }: RowPlace,
  selected: readonly number[] | "everything",
  queries: Float32Array = scene.queryValues(0, slot),
  tolerance = 1e-5,
): void {
  const { queryGroup, headDim, sinkTokens, sequences } = scene.data.options;
  const zoneEnd = sinkTokens + sequences[slot]!.zoneTokens;
  const visible = Array.from({ length: position + 1 }, (_, i) => i).filter(
    (i) => selected === "everything" || i < sinkTokens || i >= zoneEnd || selected.includes(i - sinkTokens),
  );
  const { stats } = readStep(scene);
  for (let queryHead = 0; queryHead < KV_HEADS * queryGroup; queryHead++) {
    const place = { slot, layer: 0, head: Math.floor(queryHead / queryGroup) };
    const expected = attentionOver(scene.data, place, rowOf(queries, queryHead, headDim), visible);
    const at = row * KV_HEADS * queryGroup + queryHead;
    // Sums in f32 of values of about 1; K and V are widened exactly, so 16-bit records lose no more than f32 ones.
    expectClose("output", rowOf(out, at, headDim), expected.output, tolerance);
    const logSum = stats[at * STATS_FIELDS + STATS.LSE_ATTENDED]!;
    expectClose("log-sum-exp", [logSum], [expected.logSum], tolerance * (1 + Math.abs(expected.logSum)));
  }
}

/** A copy of drawn data in which some records of every layer and head are replaced. */
function withRecords(data: SceneData, change: (record: Float32Array, position: number) => void): SceneData {
  const { headDim, kvHeads, sequences, sinkTokens } = data.options;
  const records = data.records.map((values) => values.slice());
  for (const [slot, { zoneTokens, ringUsed }] of sequences.entries()) {
    for (let head = 0; head < kvHeads; head++) {
      for (let position = 0; position < sinkTokens + zoneTokens + ringUsed; position++) {
        const from = recordIndex(data, slot, 0, head, position);
        change(records[slot]!.subarray(from, from + 2 * headDim), position);
      }
    }
  }
  return { ...data, records };
}

describeDevices("attend", (device) => {
  const sequences = [
    { zoneTokens: 700, ringUsed: 70 },
    { zoneTokens: 0, ringUsed: 1 },
    { zoneTokens: 1, ringUsed: 2 },
    { zoneTokens: 513, ringUsed: 60 },
  ];
  for (const kvDtype of ["f32", "bf16", "f16"] satisfies Dtype[]) {
    for (const [headDim, groups] of [
      [64, [1, 2, 3, 4, 5, 8]],
      [128, [1, 4, 7]],
      [256, [2, 8]],
    ] as const) {
      it(`agrees with float64: ${kvDtype}, head_dim ${headDim}, groups of ${groups} (seed 91)`, () => {
        using context = device.open();
        const selected = [0, 3, 63, 64, 511, 512, 600, 699];
        for (const queryGroup of groups) {
          const options: SceneOptions = { sequences: sequences.slice(0, 2), kvDtype, headDim, queryGroup, seed: 91 };
          const scene = new Scene(context, options);
          const first = attendTo(scene, selected, [scene.rows[0]!]);
          expectRow(scene, first, 0, scene.rows[0]!, selected);
          const second = attendTo(scene, [], [scene.rows[1]!]);
          expectRow(scene, second, 0, scene.rows[1]!, []);
        }
      });
    }
  }

  it("joins the pieces of long rows, dense and retrieved (seed 92)", () => {
    using context = device.open();
    const lengths = [400, 443, 444, 955, 956, 1500, 5000];
    const options: SceneOptions = {
      sequences: lengths.map((zoneTokens) => ({ zoneTokens, ringUsed: 64 })),
      kvDtype: "f32",
      queryGroup: 1,
      mode: "dense",
      topK: 5000,
      seed: 92,
    };
    const scene = new Scene(context, options);
    const dense = attendTo(scene, []);
    for (const [row, place] of scene.rows.entries()) expectRow(scene, dense, row, place, "everything");
    scene.setMode("vote");
    const selected = Array.from({ length: 1500 }, (_, i) => 3 * i);
    const last = scene.rows.at(-1)!;
    expectRow(scene, attendTo(scene, selected, [last]), 0, last, selected);
  });

  it("sees a ring that has wrapped, and every earlier position of it (seed 93)", () => {
    using context = device.open();
    const scene = new Scene(context, { sequences: [{ zoneTokens: 130, ringUsed: 70 }], mode: "dense", seed: 93 });
    for (const position of [0, 3, 4, 5, 134, 135, 136, 203, 204]) {
      const rows = [{ slot: 0, position }];
      scene.setMode("dense");
      expectRow(scene, attendTo(scene, [], rows), 0, rows[0]!, "everything");
      if (position < 135) continue;
      scene.setMode("vote");
      expectRow(scene, attendTo(scene, [129], rows), 0, rows[0]!, [129]);
    }
  });

  it("leaves a key that is not finite out, together with its value (seed 94)", () => {
    using context = device.open();
    for (const kvDtype of ["f32", "bf16", "f16"] satisfies Dtype[]) {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        const data = createSceneData({ sequences, kvDtype, queryGroup: 3, mode: "dense", seed: 94 });
        const spoilt = withRecords(data, (record, position) => {
          if (position % 5 === 2) record.fill(bad, 10);
        });
        const scene = new Scene(context, spoilt);
        const out = attendTo(scene, []);
        expect(out.every(Number.isFinite)).toBe(true);
        for (const [row, place] of scene.rows.entries()) expectRow(scene, out, row, place, "everything");
      }
    }
  });

  it("gives zeros and no mass when no key is left", () => {
    using context = device.open();
    const data = createSceneData({ sequences, mode: "dense", seed: 95 });
    const scene = new Scene(
      context,
      withRecords(data, (record) => record.fill(Number.NaN)),
    );
    expect(attendTo(scene, []).every((value) => value === 0)).toBe(true);
    const attended = readStep(scene).stats.filter((_, i) => i % STATS_FIELDS === STATS.LSE_ATTENDED);
    expect(attended.every((value) => value === Number.NEGATIVE_INFINITY)).toBe(true);
    // A query that is not finite has no finite logit either.
    const queries = new Float32Array(4 * scene.queryWidth).fill(Number.NaN);
    const whole = new Scene(context, data);
    expect(attendTo(whole, [], whole.rows, queries).every((value) => value === 0)).toBe(true);
  });

  it("neither overflows nor loses the others when logits are far apart (seed 96)", () => {
    using context = device.open();
    for (const kvDtype of ["f32", "bf16"] satisfies Dtype[]) {
      const data = createSceneData({ sequences, kvDtype, mode: "dense", queryGroup: 2, seed: 96 });
      const scene = new Scene(context, data);
      for (const scale of [1e-6, 3, 30, 1e4, 1e30]) {
        const queries = scene.rows.map(({ slot }) => scene.queryValues(0, slot).map((value) => value * scale));
        const out = attendTo(scene, [], scene.rows, concatenated(queries));
        // A logit of 8 x scale is rounded by a few parts in 1e7, and exp passes that on; past 1e4 one key takes all.
        const tolerance = scale > 1e4 ? 1e-5 : 1e-5 * Math.max(1, scale / 3);
        for (const [row, place] of scene.rows.entries()) {
          expectRow(scene, out, row, place, "everything", queries[row]!, tolerance);
        }
      }
    }
  });

  it("is not disturbed by weights at the end of what f32 can tell from zero (seed 100)", () => {
    using context = device.open();
    for (const kvDtype of ["f32", "bf16", "f16"] as const) {
      for (const factor of [8, 16, 32]) {
        const options = { sequences: [{ zoneTokens: 700, ringUsed: 9 }], kvHeads: KV_HEADS, kvDtype, seed: 100 };
        const scene = new Scene(context, { ...options, queryGroup: 4, headDim: 128, mode: "dense" });
        // Logits some hundreds apart: the weights of many keys are below the least normal number.
        const queries = scene.queryValues(0, 0).map((value) => value * factor);
        const out = attendTo(scene, [], scene.rows, queries);
        expectRow(scene, out, 0, scene.rows[0]!, "everything", queries, 1e-4);
      }
    }
  });

  it("keeps to strided rows and gives skipped rows zeros (seed 97)", () => {
    using context = device.open();
    const scene = new Scene(context, { sequences, seed: 97 });
    const width = scene.queryWidth;
    const plain = attendTo(scene, [0]);
    const rowStride = width + 24;
    const q = new Float32Array(4 * rowStride);
    for (const [row, { slot }] of scene.rows.entries()) q.set(scene.queryValues(0, slot), row * rowStride);
    const out = upload(context, new Float32Array(4 * rowStride + 2).fill(9));
    const rows = [scene.rows[0]!, { slot: -1, position: 5 }, scene.rows[2]!, scene.rows[3]!];
    context.attend({
      plan: scene.plan,
      layer: 0,
      step: scene.step(rows),
      q: { buffer: upload(context, q), rowStride },
      out: { buffer: out, offsetBytes: 8, rowStride },
    });
    const written = scene.read(out, new Float32Array(4 * rowStride + 2));
    expect(written.subarray(0, 2)).toEqual(Float32Array.of(9, 9));
    for (const row of rows.keys()) {
      const own = written.subarray(2 + row * rowStride, 2 + (row + 1) * rowStride);
      const expected = row === 1 ? new Float32Array(width) : rowOf(plain, row, width);
      expectSameBits("output", own.subarray(0, width), expected);
      expect(own.subarray(width).every((value) => value === 9)).toBe(true);
    }
  });

  it("says that a dense row leaves nothing out", () => {
    using context = device.open();
    const scene = new Scene(context, { sequences, mode: "dense" });
    const { buffer, offsetBytes = 0 } = scene.plan.field("stats");
    buffer.write(offsetBytes, new Float32Array(4 * KV_HEADS * 2 * STATS_FIELDS).fill(5));
    attendTo(scene, []);
    const { stats } = readStep(scene);
    for (let at = 0; at < stats.length; at += STATS_FIELDS) {
      expect(stats[at + STATS.LSE_UNSELECTED]).toBe(Number.NEGATIVE_INFINITY);
      expect(stats[at + STATS.LSE_OTHERS]).toBe(Number.NEGATIVE_INFINITY);
    }
  });

  it("gives the same bits with a hot set as without, and counts its hits (seed 99)", () => {
    const random = new Random(99);
    const many = [1500, 600, 1500].map((zoneTokens) => ({ zoneTokens, ringUsed: 64 }));
    const options: SceneOptions = { sequences: many, mode: "vote", topK: 40, headDim: 64, kvDtype: "bf16", seed: 99 };
    using context = device.open();
    const plain = new Scene(context, options);
    const hot = new Scene(context, options, { hotLines: 16 });
    const roomy = new Scene(context, options, { hotLines: 1024 });
    for (let step = 0; step < 4; step++) {
      const keys = [...new Set(Array.from({ length: 40 }, () => random.below(600)))].sort((a, b) => a - b);
      const expected = attendTo(plain, keys);
      for (const scene of [hot, roomy]) {
        for (const again of [false, true]) {
          expectSameBits("output", attendTo(scene, keys), expected);
          const { buffer, offsetBytes = 0 } = scene.plan.field("hotHits");
          const hits = new Int32Array(3 * KV_HEADS);
          buffer.read(offsetBytes, hits);
          // Only a device that is not its own host keeps what it fetched; 256 sets of four have room for 40 keys.
          const all = device.name === "cuda" ? keys.length : 0;
          if (scene === roomy && again) expect(hits).toEqual(new Int32Array(3 * KV_HEADS).fill(all));
          else for (const count of hits) expect(count).toBeLessThanOrEqual(all);
        }
      }
    }
  });

  it("gives the same bits with one thread and with three, and in a batch as alone (seed 98)", () => {
    const random = new Random(98);
    const selected = Array.from({ length: 500 }, () => random.below(1500));
    const many = [1500, 600, 1500].map((zoneTokens) => ({ zoneTokens, ringUsed: 64 }));
    for (const mode of ["dense", "vote"] as const) {
      const options: SceneOptions = { sequences: many, mode, topK: 500, headDim: 128, seed: 98 };
      const keys = mode === "dense" ? [] : selected.map((key) => key % 600);
      const [one, three] = [1, 3].map((threads) => {
        using context = device.open({ threads });
        return attendTo(new Scene(context, options), keys);
      });
      expectSameBits("output", three!, one!);
      using context = device.open();
      const scene = new Scene(context, options);
      for (const [row, place] of scene.rows.entries()) {
        expectSameBits("output", attendTo(scene, keys, [place]), rowOf(one!, row, scene.queryWidth));
      }
    }
  });
});
