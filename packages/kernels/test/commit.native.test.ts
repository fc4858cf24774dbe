import { expect, it } from "vitest";
import { describeDevices } from "./support/devices.js";
import { expectClose, expectSameBits, expectStep } from "./support/expect-step.js";
import { createPageScene } from "./support/page-scene.js";
import type { Scene } from "./support/scene.js";
import type { SceneOptions } from "./support/scene-data.js";

/** Encodes, offloads and commits one page of every slot. */
function flush(scene: Scene, pageIndex: number): void {
  for (const slot of [0, 1]) {
    const page = { cache: scene.cache, slot, pageIndex, pageId: scene.pageId(slot, pageIndex) };
    scene.context.encode(page);
    scene.context.offload(page);
    scene.context.commit(page);
  }
}

describeDevices("commit", (device) => {
  const cases: Readonly<Record<string, Partial<SceneOptions>>> = {
    "tiered, two layers": { votes: "tiered", layers: 2 },
    "tiered, invalid keys": { votes: "tiered", keys: "invalid", group: "mean" },
    "graded, without counts": { keys: "invalid", headDim: 128 },
  };
  for (const [name, options] of Object.entries(cases)) {
    it(`counts ids and invalid keys and makes the page retrievable: ${name} (seed 61)`, () => {
      using context = device.open();
      for (const turned of [0, 1]) {
        const { scene, after } = createPageScene(context, turned, options);
        flush(scene, turned);
        const { votes, layers } = scene.data.options;
        const zone = (turned + 1) * 512;
        expect(scene.read(scene.zoneTokens, new Int32Array(2))).toEqual(Int32Array.of(zone, zone));
        const invalidKeys = scene.read(scene.invalidKeys, new Uint32Array(after.invalidKeys.length));
        expectSameBits("invalid keys", invalidKeys, after.invalidKeys);
        if (votes === "tiered") {
          const idCounts = scene.read(scene.idCounts, new Uint32Array(after.idCounts.length));
          expectSameBits("id counts", idCounts, after.idCounts);
        }
        scene.data = after;
        scene.setMode("vote");
        for (let layer = 0; layer < layers; layer++) expectStep(scene, layer, scene.decode(layer));
      }
    });
  }

  for (const kvDtype of ["f32", "bf16"] as const) {
    it(`changes nothing about dense attention, ${kvDtype} (seed 61)`, () => {
      using context = device.open();
      const { scene, after } = createPageScene(context, 1, { kvDtype, mode: "dense" });
      const before = scene.decode(0);
      flush(scene, 1);
      scene.data = after;
      scene.setMode("dense");
      const flushed = scene.decode(0);
      expectStep(scene, 0, flushed, "dense");
      // The same records in other places: only the order of f32 additions may differ.
      expectClose("output", flushed, before, 1e-6);
    });
  }

  it("makes retrieval of everything equal to dense attention (seed 61)", () => {
    using context = device.open();
    const { scene, after } = createPageScene(context, 0, { kvDtype: "f32", topK: 512, candidates: 512 });
    scene.setMode("dense");
    const dense = scene.decode(0);
    flush(scene, 0);
    scene.data = after;
    for (const mode of ["vote", "scan"] as const) {
      scene.setMode(mode);
      expectClose(mode, scene.decode(0), dense, 1e-6);
    }
  });
});
