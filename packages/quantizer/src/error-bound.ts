import type { Calibration } from "./calibration.js";
import type { Quantizer } from "./quantizer.js";
import type { EncodedKey } from "./reference/encode.js";
import { decodeWeight } from "./weight-byte.js";

/**
 * ε_k of section 2 of the algorithm, f64: the estimate of ⟨k', q'⟩ is wrong by at most ‖q'‖ · ε_k, for every query.
 *
 * It is the distance between the rotated key and the vector that its codes and weight bytes stand for, so it covers the
 * rounding of the weights too. `keys` holds the key, `[headDim] f32`, at `keyOffset`, in elements; `encoded` is what
 * `encodeKey` made of it. Infinite for an invalid key, whose estimate means nothing.
 */
export function errorBound(
  quantizer: Quantizer,
  calibration: Calibration,
  keys: Float32Array,
  keyOffset: number,
  encoded: EncodedKey,
): number {
  if (!encoded.valid) return Number.POSITIVE_INFINITY;
  const { headDim, subspaceDim, signs, levels } = quantizer;
  const rotated = new Float64Array(headDim);
  for (let j = 0; j < headDim; j++) {
    const centred = Math.fround(keys[keyOffset + j]! - calibration.center[j]!);
    rotated[j] = signs[j]! * Math.fround(centred / calibration.balance[j]!);
  }
  hadamard(rotated);
  let squares = 0;
  for (let j = 0; j < headDim; j++) {
    const weight = decodeWeight(encoded.weights[Math.floor(j / subspaceDim)]!);
    const decoded = weight * levels.values[encoded.codes[j]!]!;
    squares += (rotated[j]! - decoded) ** 2;
  }
  return Math.sqrt(squares);
}

/** The orthonormal Hadamard transform in f64, in place: what the f32 rotation of the reference approximates. */
function hadamard(values: Float64Array): void {
  for (let half = 1; half < values.length; half *= 2) {
    for (let i = 0; i < values.length; i++) {
      if ((i & half) !== 0) continue;
      const a = values[i]!;
      const b = values[i + half]!;
      values[i] = a + b;
      values[i + half] = a - b;
    }
  }
  for (let i = 0; i < values.length; i++) values[i] = values[i]! / Math.sqrt(values.length);
}
