import { InvalidArgumentError } from "./errors.js";

/** Coordinates of one subspace: eight signs make one byte, eight code nibbles one 32-bit word. */
export const SUBSPACE_DIM = 8;
/** Sign centroids of one subspace, `2 ** SUBSPACE_DIM`; also the width of one row of a vote table. */
export const CENTROIDS = 256;
/** Bits of the magnitude level of one coordinate. */
export const MAGNITUDE_BITS = 3;
/** Magnitude levels, `2 ** MAGNITUDE_BITS`. */
export const MAGNITUDE_LEVELS = 8;
/** The bit of a code nibble that says "not negative"; the bits below it are the magnitude level. */
export const CODE_SIGN_BIT = 8;
/** The largest graded vote: 63 · 32 subspaces = 2016 fits 16 bits, and the sum of four votes fits a byte. */
export const MAX_VOTE = 63;
/** The collision score of a key that must never be a candidate; above every real score. */
export const NO_SCORE = 0xffff;
/** One more than the largest real score, `MAX_VOTE · 32 + 1`: the length of a score histogram. */
export const SCORE_BINS = 2017;
/** Tokens of a page. */
export const PAGE_TOKENS = 512;
/** The tiers of the paper as shares of `n · ρ_c`, in hundredths, so that tier arithmetic stays exact. */
export const TIER_SHARES_PERCENT = [5, 15, 30, 50, 75, 100] as const;
/** Seed of the rotation signs when none is given: "PARI" in ASCII. */
export const DEFAULT_SEED = 0x50415249;
/** Bits of a 32-bit float that a weight byte drops. */
export const WEIGHT_SHIFT = 20;
/** The constant between a shifted 32-bit float and its weight byte: `(127 - 16) << 3`. */
export const WEIGHT_EXPONENT_BIAS = 888;
/** The largest head dimension of the native format. */
export const MAX_HEAD_DIM = 256;

/** Where the planes of one page of key summaries lie, for one layer and KV head. */
export interface SummaryLayout {
  /** B, the number of subspaces. */
  readonly subspaces: number;
  /** Bytes of summary that one key costs. */
  readonly bytesPerKey: number;
  /** Plane `ids`: `[subspaces, PAGE_TOKENS] u8`, subspace-major, because collide reads every key of a subspace. */
  readonly idsOffsetBytes: number;
  /** Plane `codes`: `[PAGE_TOKENS, headDim / 2] u8`, key-major, because rerank reads all of one key. */
  readonly codesOffsetBytes: number;
  /** Plane `weights`: `[PAGE_TOKENS, subspaces] u8`, key-major. */
  readonly weightsOffsetBytes: number;
  /** Bytes of the three planes together. */
  readonly headPageBytes: number;
}

/**
 * The native layout of one page of key summaries: 48, 96 or 192 bytes a key at a head dimension of 64, 128 or 256.
 *
 * @throws InvalidArgumentError when `headDim` is not 64, 128 or 256.
 */
export function summaryLayout(headDim: number): SummaryLayout {
  if (headDim !== 64 && headDim !== 128 && headDim !== 256) {
    throw new InvalidArgumentError({ argument: "headDim", expected: "64, 128 or 256", received: headDim });
  }
  const subspaces = headDim / SUBSPACE_DIM;
  const codesOffsetBytes = subspaces * PAGE_TOKENS;
  const weightsOffsetBytes = codesOffsetBytes + (headDim / 2) * PAGE_TOKENS;
  const headPageBytes = weightsOffsetBytes + subspaces * PAGE_TOKENS;
  return {
    subspaces,
    bytesPerKey: headPageBytes / PAGE_TOKENS,
    idsOffsetBytes: 0,
    codesOffsetBytes,
    weightsOffsetBytes,
    headPageBytes,
  };
}
