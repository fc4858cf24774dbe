import type { Calibration } from "../calibration.js";
import { UnsupportedError } from "../errors.js";
import type { Quantizer } from "../quantizer.js";
import { CENTROIDS, MAGNITUDE_BITS, PAGE_TOKENS, SUBSPACE_DIM, summaryLayout } from "../spec.js";
import { treeSum } from "../tree-sum.js";
import { requireInteger, requireLength } from "../validate.js";
import { encodeWeight } from "../weight-byte.js";
import { rotate } from "./rotate.js";

/** The summary of one key before it is packed, with what tests need to judge it. */
export interface EncodedKey {
  /** False when the calibrated norm is zero or not finite: all fields are zero and the key is never a candidate. */
  readonly valid: boolean;
  /** ρ, the norm of the calibrated key, f32. */
  readonly norm: number;
  /** The rotated direction of the key, `[headDim] f32`. */
  readonly direction: Float32Array;
  /** Centroid ids, one bit a coordinate, `[subspaces] u8`. */
  readonly ids: Uint8Array;
  /** Magnitude level and, above it, the sign bit (1 = not negative) of each coordinate, `[headDim] u8`. */
  readonly codes: Uint8Array;
  /** Weight bytes, `[subspaces] u8`. */
  readonly weights: Uint8Array;
  /**
   * The least distance of a normalised coordinate u_j from a decision: from 0 for the signs, from a threshold for the
   * levels. Below about 1e-6 another rounding of the same mathematics may decide otherwise.
   */
  readonly boundaryDistance: number;
}

/** The arrays that encoding one key fills. */
interface EncodeScratch {
  readonly direction: Float32Array;
  readonly squares: Float32Array;
  readonly ids: Uint8Array;
  readonly codes: Uint8Array;
  readonly weights: Uint8Array;
}

/**
 * Encodes one key of `[headDim] f32` at `keyOffset`, in elements (section 2 of the algorithm), for any subspace dimension
 * and number of bits.
 *
 * @throws InvalidArgumentError when `keys` ends before the key does.
 */
export function encodeKey(
  quantizer: Quantizer,
  calibration: Calibration,
  keys: Float32Array,
  keyOffset: number,
): EncodedKey {
  requireLength("keys", keys, keyOffset + quantizer.headDim);
  const scratch = createScratch(quantizer);
  const norm = encodeInto(quantizer, calibration, keys, keyOffset, scratch);
  const { direction, ids, codes, weights } = scratch;
  const valid = isUsableNorm(norm);
  return {
    valid,
    norm: valid ? norm : 0,
    direction,
    ids,
    codes,
    weights,
    boundaryDistance: boundaryDistance(quantizer, direction),
  };
}

/**
 * Encodes the keys of one page for one KV head into the native layout and returns how many of them are invalid.
 *
 * Reads `tokens` rows of `[headDim] f32`, `keyStride` elements apart from `keysOffset` on (a stride of 2 · headDim reads
 * the keys out of records). Writes all of `page`, `[headPageBytes] u8` in the planes of `summaryLayout`; slots from `tokens`
 * on become zeros. Adds the ids of the valid keys to `idCounts`, `[subspaces, CENTROIDS] u32`.
 *
 * @throws InvalidArgumentError when an array is too short; UnsupportedError when the quantiser is not the native format.
 */
export function encodePage(
  quantizer: Quantizer,
  calibration: Calibration,
  keys: Float32Array,
  keysOffset: number,
  keyStride: number,
  tokens: number,
  page: Uint8Array,
  idCounts: Uint32Array,
): number {
  const { headDim, subspaces, subspaceDim, magnitudeBits } = quantizer;
  if (subspaceDim !== SUBSPACE_DIM || magnitudeBits !== MAGNITUDE_BITS) {
    throw new UnsupportedError({
      feature: `a page of subspace dimension ${subspaceDim} and ${magnitudeBits} magnitude bits`,
    });
  }
  const layout = summaryLayout(headDim);
  requireInteger("tokens", tokens, 0, PAGE_TOKENS);
  if (tokens > 0) requireLength("keys", keys, keysOffset + (tokens - 1) * keyStride + headDim);
  requireLength("page", page, layout.headPageBytes);
  requireLength("idCounts", idCounts, subspaces * CENTROIDS);

  const scratch = createScratch(quantizer);
  const { ids, codes, weights } = scratch;
  let invalidKeys = 0;
  page.fill(0, 0, layout.headPageBytes);
  for (let slot = 0; slot < tokens; slot++) {
    if (!isUsableNorm(encodeInto(quantizer, calibration, keys, keysOffset + slot * keyStride, scratch))) {
      invalidKeys += 1;
      continue;
    }
    for (let b = 0; b < subspaces; b++) {
      const id = ids[b]!;
      page[layout.idsOffsetBytes + b * PAGE_TOKENS + slot] = id;
      page[layout.weightsOffsetBytes + slot * subspaces + b] = weights[b]!;
      const counter = b * CENTROIDS + id;
      idCounts[counter] = idCounts[counter]! + 1;
    }
    const codesAt = layout.codesOffsetBytes + slot * (headDim / 2);
    for (let i = 0; i < headDim / 2; i++) {
      page[codesAt + i] = codes[2 * i]! | (codes[2 * i + 1]! << 4);
    }
  }
  return invalidKeys;
}

function createScratch({ headDim, subspaces }: Quantizer): EncodeScratch {
  return {
    direction: new Float32Array(headDim),
    squares: new Float32Array(headDim),
    ids: new Uint8Array(subspaces),
    codes: new Uint8Array(headDim),
    weights: new Uint8Array(subspaces),
  };
}

function isUsableNorm(norm: number): boolean {
  return norm > 0 && norm < Number.POSITIVE_INFINITY;
}

/** Encodes one key into `scratch` and returns its norm; every operation rounds to f32, in the specified order. */
function encodeInto(
  quantizer: Quantizer,
  calibration: Calibration,
  keys: Float32Array,
  keyOffset: number,
  scratch: EncodeScratch,
): number {
  const { headDim, subspaceDim, subspaces, magnitudeBits, signs } = quantizer;
  const { centersFloat32, thresholdsFloat32 } = quantizer.levels;
  const { direction, squares, ids, codes, weights } = scratch;
  const { center, balance } = calibration;
  for (let j = 0; j < headDim; j++) {
    const centred = Math.fround(keys[keyOffset + j]! - center[j]!);
    const balanced = Math.fround(centred / balance[j]!);
    direction[j] = balanced;
    squares[j] = balanced * balanced;
  }
  const norm = Math.fround(Math.sqrt(treeSum(squares, 0, headDim)));
  if (!isUsableNorm(norm)) {
    direction.fill(0);
    ids.fill(0);
    codes.fill(0);
    weights.fill(0);
    return norm;
  }
  for (let j = 0; j < headDim; j++) direction[j] = direction[j]! / norm;
  rotate(direction, 0, signs, direction, 0);

  const signBit = 1 << magnitudeBits;
  for (let b = 0; b < subspaces; b++) {
    const start = b * subspaceDim;
    for (let j = 0; j < subspaceDim; j++) {
      const x = direction[start + j]!;
      squares[j] = x * x;
    }
    const length = Math.fround(Math.sqrt(treeSum(squares, 0, subspaceDim)));
    let id = 0;
    for (let j = 0; j < subspaceDim; j++) {
      const x = direction[start + j]!;
      const positive = x >= 0;
      if (positive) id |= 1 << j;
      let level = 0;
      if (length > 0) {
        const u = Math.fround(Math.abs(x) / length);
        while (level < thresholdsFloat32.length && thresholdsFloat32[level]! <= u) level += 1;
        squares[j] = centersFloat32[level]! * u;
      }
      codes[start + j] = positive ? level | signBit : level;
    }
    ids[b] = id;
    // `squares` holds c[t_j] u_j by now; the largest u_j is at least 1 / sqrt(m), so the alignment is never zero.
    weights[b] = length > 0 ? encodeWeight(Math.fround(norm * length) / treeSum(squares, 0, subspaceDim)) : 0;
  }
  return norm;
}

function boundaryDistance({ subspaceDim, subspaces, levels }: Quantizer, direction: Float32Array): number {
  let least = Number.POSITIVE_INFINITY;
  for (let b = 0; b < subspaces; b++) {
    const block = direction.subarray(b * subspaceDim, (b + 1) * subspaceDim);
    const length = Math.hypot(...block);
    for (const x of block) {
      const u = length > 0 ? Math.abs(x) / length : 0;
      least = Math.min(least, u);
      for (const threshold of levels.thresholds) least = Math.min(least, Math.abs(u - threshold));
    }
  }
  return least;
}
