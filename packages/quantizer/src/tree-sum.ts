/**
 * The f32 sum of `values[offset .. offset + count - 1]` in the fixed order of a balanced tree; overwrites `values`.
 *
 * The order is part of the specification (halves are added element by element until one value is left), so that a
 * vector unit and a warp can do the same additions and reach the same bits. `count` is a power of two.
 */
export function treeSum(values: Float32Array, offset: number, count: number): number {
  for (let half = count >>> 1; half >= 1; half >>>= 1) {
    for (let i = offset; i < offset + half; i++) {
      // The store into a Float32Array rounds: one f32 addition.
      values[i] = values[i]! + values[i + half]!;
    }
  }
  return values[offset]!;
}
