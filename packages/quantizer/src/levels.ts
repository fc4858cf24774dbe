import { requireInteger } from "./validate.js";

/** The Lloyd-Max quantiser of one coordinate's magnitude |u_j|, for a uniform direction u in a subspace. */
export interface Levels {
  /** m, the dimension of the subspace. */
  readonly subspaceDim: number;
  /** Bits of one magnitude. */
  readonly magnitudeBits: number;
  /** Reconstruction values, ascending, `[2 ** magnitudeBits] f64`. */
  readonly centers: Float64Array;
  /** Cell borders, ascending, each midway between two centers, `[2 ** magnitudeBits - 1] f64`. */
  readonly thresholds: Float64Array;
  /** `centers` rounded: what encode and rerank use, `[2 ** magnitudeBits] f32`. */
  readonly centersFloat32: Float32Array;
  /** `thresholds` rounded: what encode uses, `[2 ** magnitudeBits - 1] f32`. */
  readonly thresholdsFloat32: Float32Array;
  /** The signed value of each code, `[2 ** (magnitudeBits + 1)] f32`: the lower half negative, the upper half not. */
  readonly values: Float32Array;
}

/** Weights of Boole's rule at inner points, by the index modulo 4; an end point has half the weight of the first. */
const RULE_WEIGHTS = [14, 32, 12, 32] as const;
/** Steps in a cell, a multiple of 4: the error of a center is then below 1e-10, far below one unit of f32. */
const STEPS = 128;
/** The iteration stops when no center moves by more than this. */
const TOLERANCE = 1e-15;
/** Far above the iterations that 16 levels need (about 1500); a bound, so that rounding cannot make it endless. */
const MAX_ITERATIONS = 20_000;

const cache = new Map<number, Levels>();

/**
 * The magnitude levels for subspaces of `subspaceDim` coordinates: the quantiser of least mean squared error for the
 * density proportional to (1 - x^2)^((m - 3) / 2) on [0, 1], found by Lloyd's iteration on numerical integrals.
 *
 * The result is cached and must not be written to. Only additions, products, quotients and square roots are used, which
 * IEEE 754 fixes to the bit: every engine derives the same levels.
 *
 * @throws InvalidArgumentError when `subspaceDim` is not 4 to 8 or `magnitudeBits` is not 2 to 4.
 */
export function magnitudeLevels(subspaceDim: number, magnitudeBits: number): Levels {
  requireInteger("subspaceDim", subspaceDim, 4, 8);
  requireInteger("magnitudeBits", magnitudeBits, 2, 4);
  const cacheKey = subspaceDim * 8 + magnitudeBits;
  let levels = cache.get(cacheKey);
  if (levels === undefined) {
    levels = deriveLevels(subspaceDim, magnitudeBits);
    cache.set(cacheKey, levels);
  }
  return levels;
}

function deriveLevels(subspaceDim: number, magnitudeBits: number): Levels {
  const count = 2 ** magnitudeBits;
  const centers = Float64Array.from({ length: count }, (_, level) => (level + 0.5) / count);
  const thresholds = new Float64Array(count - 1);
  for (let iteration = 0; iteration < MAX_ITERATIONS; iteration++) {
    let largestMove = 0;
    for (let t = 0; t < count - 1; t++) {
      thresholds[t] = (centers[t]! + centers[t + 1]!) / 2;
    }
    for (let level = 0; level < count; level++) {
      const from = level === 0 ? 0 : thresholds[level - 1]!;
      const to = level === count - 1 ? 1 : thresholds[level]!;
      const center = conditionalMean(from, to, subspaceDim);
      largestMove = Math.max(largestMove, Math.abs(center - centers[level]!));
      centers[level] = center;
    }
    if (largestMove <= TOLERANCE) break;
  }
  for (let t = 0; t < count - 1; t++) thresholds[t] = (centers[t]! + centers[t + 1]!) / 2;
  const centersFloat32 = Float32Array.from(centers);
  const values = new Float32Array(2 * count);
  for (let level = 0; level < count; level++) {
    values[level] = -centersFloat32[level]!;
    values[level + count] = centersFloat32[level]!;
  }
  return {
    subspaceDim,
    magnitudeBits,
    centers,
    thresholds,
    centersFloat32,
    thresholdsFloat32: Float32Array.from(thresholds),
    values,
  };
}

/**
 * The mean of x in [from, to] under the density (1 - x^2)^((m - 3) / 2), by Boole's rule in the half-angle variable t.
 *
 * With x = 2t / (1 + t^2), sqrt(1 - x^2) becomes (1 - t^2) / (1 + t^2): the integrand is a smooth rational function for
 * every m, even at x = 1 where the density itself has no bounded derivative.
 */
function conditionalMean(from: number, to: number, subspaceDim: number): number {
  const start = halfAngle(from);
  const step = (halfAngle(to) - start) / STEPS;
  let mass = 0;
  let moment = 0;
  for (let i = 0; i <= STEPS; i++) {
    const t = start + i * step;
    const denominator = 1 + t * t;
    const cosine = (1 - t * t) / denominator;
    let density = (2 * cosine) / denominator;
    for (let power = 3; power < subspaceDim; power++) density *= cosine;
    const weighted = density * (i === 0 || i === STEPS ? RULE_WEIGHTS[0] / 2 : RULE_WEIGHTS[i % 4]!);
    mass += weighted;
    moment += weighted * ((2 * t) / denominator);
  }
  return moment / mass;
}

function halfAngle(x: number): number {
  return x / (1 + Math.sqrt(1 - x * x));
}
