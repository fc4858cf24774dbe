import { type Calibration, noCalibration } from "./calibration.js";
import type { Quantizer } from "./quantizer.js";
import { encodePage } from "./reference/encode.js";
import { CENTROIDS, PAGE_TOKENS, summaryLayout } from "./spec.js";
import { requireInteger, requireLength } from "./validate.js";

/** The retrieval zone of one KV head: key summaries of `tokens` keys, page by page. */
export interface KeySummaries {
  readonly quantizer: Quantizer;
  readonly calibration: Calibration;
  readonly tokens: number;
  /** One `[headPageBytes] u8` a page, in the layout of `summaryLayout`; the slots behind the last key are zero. */
  readonly pages: readonly Uint8Array[];
  /** Invalid keys of each page: zero norm or not finite. */
  readonly invalidKeys: readonly number[];
  /** The valid keys of each centroid over all pages, `[subspaces, CENTROIDS] u32`. */
  readonly idCounts: Uint32Array;
}

/**
 * Summarises the keys of one KV head, `[tokens, headDim] f32`, into pages of the native format.
 *
 * @throws InvalidArgumentError when `keys` is too short; UnsupportedError when the quantiser is not the native format.
 */
export function summarizeKeys(options: {
  readonly quantizer: Quantizer;
  readonly keys: Float32Array;
  readonly tokens: number;
  readonly calibration?: Calibration;
}): KeySummaries {
  const { quantizer, keys, tokens } = options;
  const { headDim, subspaces } = quantizer;
  const calibration = options.calibration ?? noCalibration(headDim);
  requireInteger("tokens", tokens, 0, 2 ** 26);
  requireLength("keys", keys, tokens * headDim);
  const { headPageBytes } = summaryLayout(headDim);
  const idCounts = new Uint32Array(subspaces * CENTROIDS);
  const pages: Uint8Array[] = [];
  const invalidKeys: number[] = [];
  for (let from = 0; from < tokens; from += PAGE_TOKENS) {
    const page = new Uint8Array(headPageBytes);
    const rows = Math.min(PAGE_TOKENS, tokens - from);
    pages.push(page);
    invalidKeys.push(encodePage(quantizer, calibration, keys, from * headDim, headDim, rows, page, idCounts));
  }
  return { quantizer, calibration, tokens, pages, invalidKeys, idCounts };
}
