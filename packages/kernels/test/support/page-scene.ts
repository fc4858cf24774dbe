import { PAGE_TOKENS, summaryLayout } from "@pariskv/quantizer";
import type { Context } from "../../src/context.js";
import { Scene } from "./scene.js";
import { createSceneData, type SceneData, type SceneOptions } from "./scene-data.js";

/** A scene whose slots are about to flush one page, and what it is to hold afterwards. */
export interface PageScene {
  readonly scene: Scene;
  /** The same tokens with one page more in the retrieval zone of every slot. */
  readonly after: SceneData;
}

/**
 * Places sequences whose rings hold a page and more; `turned` says how many pages went before, which decides where in the
 * ring the page begins. The ring has 700 rows, so that the second page is split by its end.
 */
export function createPageScene(context: Context, turned: number, options: Partial<SceneOptions> = {}): PageScene {
  const ring = { ringTokens: 700, seed: 61, ...options };
  const sequencesAt = (pages: number) => [
    { zoneTokens: pages * PAGE_TOKENS, ringUsed: 600 - (pages - turned) * PAGE_TOKENS },
    { zoneTokens: pages * PAGE_TOKENS, ringUsed: 512 - (pages - turned) * PAGE_TOKENS },
  ];
  const before = createSceneData({ ...ring, sequences: sequencesAt(turned) });
  const after = createSceneData({ ...ring, sequences: sequencesAt(turned + 1) });
  return { scene: new Scene(context, before, { maxZoneTokens: (turned + 1) * PAGE_TOKENS }), after };
}

/** The summaries of a page on the device, `[layers, kvHeads, headPageBytes] u8`. */
export function readSummaries(scene: Scene, pageId: number): Uint8Array {
  const { layers, kvHeads, headDim } = scene.data.options;
  const pageBytes = layers * kvHeads * summaryLayout(headDim).headPageBytes;
  return scene.read(scene.summaries, new Uint8Array(pageBytes), pageId * pageBytes);
}

/** The records of a page on the device, `[layers, kvHeads, 512, 2, headDim] kvDtype` as bytes. */
export function readRecords(scene: Scene, pageId: number): Uint8Array {
  const { layers, kvHeads, headDim, kvDtype } = scene.data.options;
  const { pageCapacity } = scene.cache.params;
  const layerBytes = kvHeads * PAGE_TOKENS * 2 * headDim * (kvDtype === "f32" ? 4 : 2);
  const records = new Uint8Array(layers * layerBytes);
  for (let layer = 0; layer < layers; layer++) {
    const ofLayer = records.subarray(layer * layerBytes, (layer + 1) * layerBytes);
    scene.read(scene.pageRecords, ofLayer, (layer * pageCapacity + pageId) * layerBytes);
  }
  return records;
}
