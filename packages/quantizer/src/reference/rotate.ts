/**
 * Rotates one vector by the randomised Hadamard transform y = H(s ∘ x) / sqrt(d) (section 2 of the algorithm).
 *
 * `source` and `target` hold `[headDim] f32` at their offsets, in elements, and may be the same memory; `signs` is
 * `[headDim] f32` and gives d, a power of two. Every operation rounds to f32, in the order of the specification, so that
 * each backend reaches the same bits. Norms and inner products are kept up to rounding.
 */
export function rotate(
  source: Float32Array,
  sourceOffset: number,
  signs: Float32Array,
  target: Float32Array,
  targetOffset: number,
): void {
  const headDim = signs.length;
  for (let j = 0; j < headDim; j++) {
    target[targetOffset + j] = signs[j]! * source[sourceOffset + j]!;
  }
  const end = targetOffset + headDim;
  for (let half = 1; half < headDim; half *= 2) {
    for (let block = targetOffset; block < end; block += 2 * half) {
      for (let i = block; i < block + half; i++) {
        const a = target[i]!;
        const b = target[i + half]!;
        // The stores into a Float32Array round: one f32 addition, one f32 subtraction.
        target[i] = a + b;
        target[i + half] = a - b;
      }
    }
  }
  const scale = Math.fround(1 / Math.sqrt(headDim));
  for (let i = targetOffset; i < end; i++) target[i] = target[i]! * scale;
}
