import { expect, it } from "vitest";
import { describeDevices } from "./support/devices.js";
import { expectClose, expectSameBits, rowOf } from "./support/expect-step.js";
import { GrowingScene, type GrowthStep } from "./support/growing-scene.js";
import { attentionOver } from "./support/oracle.js";
import type { SceneOptions } from "./support/scene-data.js";

// A ring of a page and 8 tokens: it is full at 524 tokens, and again at 1036.
const OPTIONS: Omit<SceneOptions, "sequences"> = {
  layers: 3,
  headDim: 64,
  kvDtype: "f32",
  sinkTokens: 4,
  ringTokens: 520,
  candidates: 200,
  topK: 40,
  seed: 71,
};
const SEQUENCE_TOKENS = [1045, 1042];

/** Checks every layer and slot against float64 attention over sink, selected keys and ring, the present token included. */
function expectGrowthStep(growing: GrowingScene, { rows, out, selected }: GrowthStep): void {
  const { data } = growing.scene;
  const { layers, kvHeads, queryGroup, headDim, sinkTokens } = data.options;
  for (let layer = 0; layer < layers; layer++) {
    for (const [row, { slot, position }] of rows.entries()) {
      const zone = growing.zoneTokens(slot);
      for (let queryHead = 0; queryHead < kvHeads * queryGroup; queryHead++) {
        const head = Math.floor(queryHead / queryGroup);
        const keys = selected[layer]![row * kvHeads + head]!;
        expect(keys).toHaveLength(Math.min(zone, 40));
        const visible = [
          ...Array.from({ length: Math.min(sinkTokens, position + 1) }, (_, i) => i),
          ...keys.map((key) => sinkTokens + key),
          ...Array.from({ length: Math.max(0, position + 1 - sinkTokens - zone) }, (_, i) => sinkTokens + zone + i),
        ];
        const q = rowOf(growing.scene.queryValues(layer, slot), queryHead, headDim);
        const { output } = attentionOver(data, { slot, layer, head }, q, visible);
        const at = `layer ${layer}, slot ${slot}, position ${position}, query head ${queryHead}`;
        expectClose(at, rowOf(out[layer]!, row * kvHeads * queryGroup + queryHead, headDim), output, 1e-5);
      }
    }
  }
}

describeDevices("decode over a growing sequence", (device) => {
  it("sees the present token in every layer, at the first tokens and around every flush (seed 71)", async () => {
    using context = device.open();
    const growing = new GrowingScene(context, SEQUENCE_TOKENS, OPTIONS);
    // The first tokens are sink; then one slot flushes two steps before the other, both in the middle of a tape's life.
    for (let i = 0; i < 6; i++) expectGrowthStep(growing, await growing.decode("tape"));
    for (const boundary of [524, 1036]) {
      growing.appendUntil(0, boundary - 3);
      growing.appendUntil(1, boundary - 5);
      for (let i = 0; i < 8; i++)
        expectGrowthStep(growing, await growing.decode(i % 2 ? "tape" : "tape in the background"));
    }
    expect([growing.zoneTokens(0), growing.zoneTokens(1)]).toEqual([1024, 1024]);
  });

  it("gives the same bits from a tape as from immediate calls (seed 71)", async () => {
    using context = device.open();
    using other = device.open();
    const taped = new GrowingScene(context, SEQUENCE_TOKENS, OPTIONS);
    const immediate = new GrowingScene(other, SEQUENCE_TOKENS, OPTIONS);
    for (const growing of [taped, immediate]) {
      growing.appendUntil(0, 522);
      growing.appendUntil(1, 521);
    }
    for (let i = 0; i < 6; i++) {
      const a = await taped.decode("tape");
      const b = await immediate.decode("immediate");
      expect(a.selected).toEqual(b.selected);
      for (const [layer, out] of a.out.entries()) expectSameBits(`layer ${layer}`, out, b.out[layer]!);
    }
  });
});
