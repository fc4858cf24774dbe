import { requireInteger, requireLength, requireOneOf } from "./validate.js";

/** What a calibration does: nothing, subtract the mean key, or subtract it and balance the channels as well. */
export type CalibrationMode = "none" | "center" | "balance";

/**
 * The two vectors of section 6 of the algorithm for one KV head.
 *
 * For any such vectors ⟨q, k⟩ = ⟨D ∘ q, (k - μ) ⊘ D⟩ + ⟨q, μ⟩, and the last term is the same for every key: attention
 * does not change, whatever the vectors are.
 */
export interface Calibration {
  readonly mode: CalibrationMode;
  /** μ, subtracted from every key, `[headDim] f32`. */
  readonly center: Float32Array;
  /** D, divides keys and multiplies queries, `[headDim] f32`, positive. */
  readonly balance: Float32Array;
}

/**
 * The calibration that changes nothing: μ = 0, D = 1.
 *
 * @throws InvalidArgumentError when `headDim` is not a positive whole number.
 */
export function noCalibration(headDim: number): Calibration {
  requireInteger("headDim", headDim, 1, 65536);
  return { mode: "none", center: new Float32Array(headDim), balance: new Float32Array(headDim).fill(1) };
}

/**
 * Finds the calibration of one KV head from sample keys `[keyCount, headDim] f32` and the pooled sample queries of its
 * group `[queryCount, headDim] f32`, which only the mode `balance` reads: μ_j = mean(k_j) and
 * D_j = sqrt(std(k_j) / std(q_j)).
 *
 * Rows with an element that is not finite are left out; D_j is 1 where either deviation is 0 or the quotient leaves f32.
 *
 * @throws InvalidArgumentError when `mode` is unknown or an array is shorter than its count says.
 */
export function findCalibration(options: {
  readonly mode: CalibrationMode;
  readonly headDim: number;
  readonly keys: Float32Array;
  readonly keyCount: number;
  readonly queries?: Float32Array;
  readonly queryCount?: number;
}): Calibration {
  const { mode, headDim, keys, keyCount, queries = new Float32Array(0), queryCount = 0 } = options;
  requireOneOf("mode", mode, ["none", "center", "balance"]);
  requireInteger("keyCount", keyCount, 0, 2 ** 31);
  requireInteger("queryCount", queryCount, mode === "balance" ? 1 : 0, 2 ** 31);
  const calibration = noCalibration(headDim);
  requireLength("keys", keys, keyCount * headDim);
  requireLength("queries", queries, queryCount * headDim);
  if (mode === "none") return calibration;
  const { center, balance } = calibration;
  const keyMoments = columnMoments(keys, keyCount, headDim);
  center.set(keyMoments.means);
  if (mode === "balance") {
    const queryMoments = columnMoments(queries, queryCount, headDim);
    for (let j = 0; j < headDim; j++) {
      const ratio = Math.fround(Math.sqrt(keyMoments.deviations[j]! / queryMoments.deviations[j]!));
      balance[j] = ratio > 0 && ratio < Number.POSITIVE_INFINITY ? ratio : 1;
    }
  }
  return { mode, center, balance };
}

/** Mean and standard deviation of each column of the finite rows of `[count, headDim] f32`, in two passes of f64. */
function columnMoments(
  rows: Float32Array,
  count: number,
  headDim: number,
): { readonly means: Float64Array; readonly deviations: Float64Array } {
  const means = new Float64Array(headDim);
  const deviations = new Float64Array(headDim);
  const finiteRows: number[] = [];
  for (let row = 0; row < count; row++) {
    if (rows.subarray(row * headDim, (row + 1) * headDim).every(Number.isFinite)) finiteRows.push(row);
  }
  // An empty sample has mean 0 and deviation 0.
  const share = 1 / Math.max(1, finiteRows.length);
  for (let j = 0; j < headDim; j++) {
    let total = 0;
    for (const row of finiteRows) total += rows[row * headDim + j]!;
    const mean = total * share;
    let squares = 0;
    for (const row of finiteRows) squares += (rows[row * headDim + j]! - mean) ** 2;
    means[j] = mean;
    deviations[j] = Math.sqrt(squares * share);
  }
  return { means, deviations };
}
