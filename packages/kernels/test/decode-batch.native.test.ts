import { expect, it } from "vitest";
import { describeDevices } from "./support/devices.js";
import { expectClose, expectSameBits, expectStep, keysOf, readStep, rowOf } from "./support/expect-step.js";
import { Scene } from "./support/scene.js";
import type { SceneOptions } from "./support/scene-data.js";

/** 33 sequences of every kind of length: nothing, one, around a page, and between. */
const RAGGED = Array.from({ length: 33 }, (_, slot) => ({
  zoneTokens: [0, 1, 511, 512, 513, 200, 37, 90, 600][slot % 9]! + (slot >= 9 ? slot : 0),
  ringUsed: 1 + ((slot * 7) % 30),
}));
const OPTIONS: SceneOptions = { sequences: RAGGED, ringTokens: 31, kvHeads: 2, topK: 12, kvDtype: "f32", seed: 81 };

describeDevices("decode batch", (device) => {
  for (const mode of ["vote", "scan", "dense"] as const) {
    it(`gives ragged batches of 2, 8 and 33 what single runs give, mode ${mode} (seed 81)`, () => {
      using context = device.open();
      const scene = new Scene(context, { ...OPTIONS, mode });
      const single = scene.rows.map((row) => {
        const out = scene.decode(0, [row]);
        const step = readStep(scene);
        return { out, keys: mode === "dense" ? [] : [0, 1].map((head) => keysOf(scene, step, head)) };
      });
      for (const batch of [2, 8, 33]) {
        // From the end, so that no row has the number of its slot.
        const rows = scene.rows.slice(-batch).reverse();
        const out = scene.decode(0, rows);
        const step = readStep(scene);
        for (const [row, { slot }] of rows.entries()) {
          expectClose(`batch ${batch}, slot ${slot}`, rowOf(out, row, scene.queryWidth), single[slot]!.out, 1e-6);
          if (mode === "dense") continue;
          const keys = [0, 1].map((head) => keysOf(scene, step, 2 * row + head));
          expect(keys, `batch ${batch}, slot ${slot}`).toEqual(single[slot]!.keys);
        }
      }
    });
  }

  it("skips rows without a slot and writes zeros for them (seed 81)", () => {
    using context = device.open();
    const scene = new Scene(context, OPTIONS);
    const rows = [scene.rows[3]!, { slot: -1, position: 5 }, scene.rows[4]!, { slot: -1, position: -1 }];
    const whole = scene.decode();
    const out = scene.decode(0, rows);
    const width = scene.queryWidth;
    expectClose("row 0", rowOf(out, 0, width), rowOf(whole, 3, width), 1e-6);
    expectSameBits("row 1", rowOf(out, 1, width), new Float32Array(width));
    expectClose("row 2", rowOf(out, 2, width), rowOf(whole, 4, width), 1e-6);
    expectSameBits("row 3", rowOf(out, 3, width), new Float32Array(width));
  });

  it("lets rows of one sequence stand at different positions, each seeing only its own past (seed 82)", () => {
    using context = device.open();
    const scene = new Scene(
      context,
      { ...OPTIONS, sequences: [{ zoneTokens: 520, ringUsed: 30 }], seed: 82 },
      { maxRows: 4 },
    );
    for (const mode of ["dense", "scan", "vote"] as const) {
      scene.setMode(mode);
      const last = scene.rows[0]!.position;
      const rows = [last, last - 29, last - 1, last].map((position) => ({ slot: 0, position }));
      expectStep(scene, 0, scene.decode(0, rows), mode, rows);
    }
  });

  it("gives the same bits with one thread and with two (seed 83)", () => {
    using one = device.open({ threads: 1 });
    using two = device.open({ threads: 2 });
    for (const mode of ["vote", "dense"] as const) {
      const options: SceneOptions = {
        ...OPTIONS,
        sequences: [{ zoneTokens: 3000, ringUsed: 9 }],
        kvHeads: 1,
        mode,
        seed: 83,
      };
      const [a, b] = [new Scene(one, options), new Scene(two, options)];
      expectSameBits(`mode ${mode}`, a.decode(), b.decode());
      if (mode === "vote") expectSameBits("priorities", readStep(a).priorities, readStep(b).priorities);
    }
  });

  it("keeps caches of different shapes apart, on one context and on two (seeds 84, 85)", () => {
    using context = device.open();
    using other = device.open();
    const small: SceneOptions = { ...OPTIONS, sequences: RAGGED.slice(0, 5), headDim: 64, queryGroup: 1, seed: 84 };
    const large: SceneOptions = {
      ...OPTIONS,
      sequences: RAGGED.slice(5, 9),
      headDim: 256,
      kvDtype: "bf16",
      group: "sum",
      seed: 85,
    };
    const scenes = [
      new Scene(context, small),
      new Scene(context, large),
      new Scene(other, small),
      new Scene(other, large),
    ];
    // Every stage of all four before the next stage of any.
    const steps = scenes.map((scene) => ({ plan: scene.plan, layer: 0, step: scene.step(), q: scene.queries(0) }));
    for (const [i, { context: own }] of scenes.entries()) own.probe(steps[i]!);
    for (const [i, { context: own }] of scenes.entries()) own.collide(steps[i]!);
    for (const [i, { context: own }] of scenes.entries()) own.select(steps[i]!);
    for (const [i, { context: own }] of scenes.entries()) own.rerank(steps[i]!);
    for (const [i, scene] of scenes.entries()) {
      const out = { buffer: scene.out, rowStride: scene.queryWidth };
      scene.context.attend({ ...steps[i]!, out });
    }
    for (const scene of scenes) {
      const length = scene.rows.length * scene.queryWidth;
      expectStep(scene, 0, scene.read(scene.out, new Float32Array(length)));
    }
  });
});
