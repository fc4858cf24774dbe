import { probe } from "@pariskv/quantizer";
import { expect, it } from "vitest";
import { describeDevices } from "./support/devices.js";
import { expectSameBits, readStep, rowOf } from "./support/expect-step.js";
import { calibrationOf } from "./support/oracle.js";
import { Scene, upload } from "./support/scene.js";
import type { SceneOptions } from "./support/scene-data.js";

const SEQUENCES = [
  { zoneTokens: 130, ringUsed: 3 },
  { zoneTokens: 0, ringUsed: 1 },
  { zoneTokens: 40, ringUsed: 9 },
];

/** What the quantiser makes of the queries of one (row, KV head). */
function expectedProbe(scene: Scene, slot: number, head: number, queries: Float32Array) {
  const { queryGroup, headDim, group, votes, kvHeads, sequences } = scene.data.options;
  const { mu, scale } = calibrationOf(scene.data, 0, head);
  const countsLength = headDim * 32;
  const { zoneTokens } = sequences[slot]!;
  const rotated = new Float32Array((group === "mean" ? 1 : queryGroup) * headDim);
  const tables = new Uint8Array((group === "max" ? queryGroup : 1) * headDim * 32);
  probe({
    quantizer: scene.data.quantizer,
    calibration: { mode: "balance", center: mu, balance: scale },
    queries,
    queriesOffset: head * queryGroup * headDim,
    groupHeads: queryGroup,
    votes,
    group,
    idCounts: rowOf(scene.data.idCounts, slot * kvHeads + head, countsLength),
    tierLimits: Uint32Array.from([5, 15, 30, 50, 75, 100], (percent) => Math.ceil((zoneTokens * percent) / 400)),
    rotated,
    tables,
  });
  return { rotated, tables };
}

function expectProbe(scene: Scene, queryRows: readonly Float32Array[]): void {
  const { kvHeads } = scene.data.options;
  const step = readStep(scene);
  for (const [row, { slot }] of scene.rows.entries()) {
    for (let head = 0; head < kvHeads; head++) {
      const { rotated, tables } = expectedProbe(scene, slot, head, queryRows[row]!);
      const entry = row * kvHeads + head;
      expectSameBits("rotated", rowOf(step.rotated, entry, rotated.length), rotated);
      expectSameBits("tables", rowOf(step.tables, entry, tables.length), tables);
    }
  }
}

describeDevices("probe", (device) => {
  const shapes = [
    { headDim: 64, queryGroup: 1 },
    { headDim: 64, queryGroup: 8 },
    { headDim: 128, queryGroup: 4 },
    { headDim: 256, queryGroup: 2 },
  ];
  for (const votes of ["graded", "tiered"] as const) {
    for (const group of ["mean", "max", "sum"] as const) {
      it(`makes the quantiser's rotated queries and vote tables to the bit: ${votes}, ${group} (seed 41)`, () => {
        using context = device.open();
        for (const shape of shapes) {
          const scene = new Scene(context, {
            sequences: SEQUENCES,
            votes,
            group,
            calibrated: true,
            seed: 41,
            ...shape,
          });
          context.probe({ plan: scene.plan, layer: 0, step: scene.step(), q: scene.queries(0) });
          expectProbe(
            scene,
            scene.rows.map(({ slot }) => scene.queryValues(0, slot)),
          );
        }
      });
    }

    it(`agrees on queries of zero, tiny and not finite values: ${votes} (seed 42)`, () => {
      using context = device.open();
      const options: SceneOptions = { sequences: SEQUENCES, votes, seed: 42 };
      for (const group of ["mean", "max", "sum"] as const) {
        for (const value of [0, -0, Number.NaN, Number.POSITIVE_INFINITY, 1e-42]) {
          const scene = new Scene(context, { ...options, group });
          // The first query head of each row is replaced; its neighbours stay.
          const queryRows = scene.rows.map(({ slot }) => scene.queryValues(0, slot).slice().fill(value, 0, 64));
          const q = { buffer: upload(context, joined(queryRows)), rowStride: scene.queryWidth };
          context.probe({ plan: scene.plan, layer: 0, step: scene.step(), q });
          const { tables } = readStep(scene);
          for (const [row, { slot }] of scene.rows.entries()) {
            const expected = expectedProbe(scene, slot, 0, queryRows[row]!);
            expectSameBits("tables", rowOf(tables, row * 2, expected.tables.length), expected.tables);
          }
        }
      }
    });
  }

  it("leaves the workspaces of dense and of skipped rows alone", () => {
    using context = device.open();
    const scene = new Scene(context, { sequences: SEQUENCES, mode: "dense" });
    const mark = Float32Array.from({ length: 3 * 2 * 2 * 64 }, (_, i) => i);
    const { buffer, offsetBytes = 0 } = scene.plan.field("rotated");
    buffer.write(offsetBytes, mark);
    context.probe({ plan: scene.plan, layer: 0, step: scene.step(), q: scene.queries(0) });
    expect(readStep(scene).rotated).toEqual(mark);
    scene.setMode("vote");
    const rows = [{ slot: -1, position: 0 }, scene.rows[2]!];
    context.probe({ plan: scene.plan, layer: 0, step: scene.step(rows), q: scene.queries(0, rows) });
    const { rotated } = readStep(scene);
    expect(rotated.subarray(0, 256)).toEqual(mark.subarray(0, 256));
    expect(rotated.subarray(256, 512)).not.toEqual(mark.subarray(256, 512));
    expect(rotated.subarray(512)).toEqual(mark.subarray(512));
  });

  it("refuses more rows than the plan has room for", () => {
    using context = device.open();
    const scene = new Scene(context, { sequences: SEQUENCES });
    const rows = [...scene.rows, scene.rows[0]!];
    const q = scene.queries(0, rows);
    expect(() => context.probe({ plan: scene.plan, layer: 0, step: scene.step(rows), q })).toThrow("step.rowCount");
  });
});

function joined(rows: readonly Float32Array[]): Float32Array {
  return Float32Array.from(rows.flatMap((row) => Array.from(row)));
}
