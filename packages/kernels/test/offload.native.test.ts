import { it } from "vitest";
import { describeDevices } from "./support/devices.js";
import { expectSameBits } from "./support/expect-step.js";
import { createPageScene, readRecords } from "./support/page-scene.js";
import { encodeAs, pageRecords } from "./support/scene.js";

describeDevices("offload", (device) => {
  for (const kvDtype of ["f32", "bf16", "f16"] as const) {
    it(`copies the records of a page from the ring, in one piece or in two, ${kvDtype} (seed 61)`, () => {
      using context = device.open();
      for (const turned of [0, 1]) {
        const { scene, after } = createPageScene(context, turned, { kvDtype, layers: 2, keys: "invalid" });
        for (const slot of [0, 1]) {
          const pageId = scene.pageId(slot, turned);
          const neighbour = readRecords(scene, scene.pageId(slot, turned + 1));
          context.offload({ cache: scene.cache, slot, pageIndex: turned, pageId });
          const expected = encodeAs(kvDtype, pageRecords(after, slot, turned));
          expectSameBits("records", readRecords(scene, pageId), expected);
          expectSameBits("the page beside", readRecords(scene, scene.pageId(slot, turned + 1)), neighbour);
        }
      }
    });
  }
});
