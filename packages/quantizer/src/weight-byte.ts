import { WEIGHT_EXPONENT_BIAS, WEIGHT_SHIFT } from "./spec.js";

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** Half of the unit in the last place that a weight byte keeps, as bits of a 32-bit float. */
const HALF_UNIT = 1 << (WEIGHT_SHIFT - 1);

/**
 * A weight as one byte: an unsigned float of 5 exponent and 3 mantissa bits, rounded to nearest, ties up.
 *
 * The relative error is at most 1/16 from 1.125 · 2^-16 to 61440; smaller weights become 0 or the least value, larger
 * ones 61440. `weight` is an f32 and not negative.
 */
export function encodeWeight(weight: number): number {
  float[0] = weight;
  const unit = ((bits[0]! + HALF_UNIT) >>> WEIGHT_SHIFT) - WEIGHT_EXPONENT_BIAS;
  return Math.min(255, Math.max(0, unit));
}

/** The f32 that a weight byte stands for; 0 stands for 0. */
export function decodeWeight(byte: number): number {
  if (byte === 0) return 0;
  bits[0] = (byte + WEIGHT_EXPONENT_BIAS) << WEIGHT_SHIFT;
  return float[0]!;
}

/** Every weight byte decoded, `[256] f32`, for the loops over candidates. */
export const DECODED_WEIGHTS: Float32Array = Float32Array.from({ length: 256 }, (_, byte) => decodeWeight(byte));
