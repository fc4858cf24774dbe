import { type Levels, magnitudeLevels } from "./levels.js";
import { rotationSigns } from "./signs.js";
import { DEFAULT_SEED, MAGNITUDE_BITS, SUBSPACE_DIM } from "./spec.js";
import { requireOneOf } from "./validate.js";

/** Everything that encoding and scoring share: plain data that depends on no key. */
export interface Quantizer {
  /** d, the coordinates of a key. */
  readonly headDim: number;
  /** m, the coordinates of a subspace. */
  readonly subspaceDim: number;
  /** B = d / m, the subspaces of a key. */
  readonly subspaces: number;
  /** Bits of a magnitude level; a code has one more, the sign. */
  readonly magnitudeBits: number;
  /** The seed of `signs`, an unsigned 32-bit number. */
  readonly seed: number;
  /** The signs of the rotation, `[headDim] f32`. */
  readonly signs: Float32Array;
  /** The magnitude levels of a coordinate. */
  readonly levels: Levels;
}

/**
 * Makes the shared data of a quantiser; the defaults are the native format (section 2 of the algorithm).
 *
 * @example
 * const quantizer = createQuantizer({ headDim: 128 });
 *
 * @throws InvalidArgumentError when `headDim` is not 64, 128 or 256, `subspaceDim` not 4 or 8, `magnitudeBits` not 2 to
 * 4, or `seed` not an unsigned 32-bit number.
 */
export function createQuantizer(options: {
  readonly headDim: number;
  readonly seed?: number;
  readonly subspaceDim?: number;
  readonly magnitudeBits?: number;
}): Quantizer {
  const { headDim, seed = DEFAULT_SEED, subspaceDim = SUBSPACE_DIM, magnitudeBits = MAGNITUDE_BITS } = options;
  requireOneOf("headDim", headDim, [64, 128, 256]);
  requireOneOf("subspaceDim", subspaceDim, [4, 8]);
  return {
    headDim,
    subspaceDim,
    subspaces: headDim / subspaceDim,
    magnitudeBits,
    seed,
    signs: rotationSigns(headDim, seed),
    levels: magnitudeLevels(subspaceDim, magnitudeBits),
  };
}
