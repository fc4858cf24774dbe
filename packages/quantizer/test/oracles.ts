/** The mathematics once more, in f64 and by other means than the reference: slow, short, obviously right. */

/** The rotation by its definition: entry (i, j) of the Hadamard matrix is the parity of the bits common to i and j. */
export function rotateByMatrix(vector: ArrayLike<number>, signs: ArrayLike<number>): number[] {
  const headDim = signs.length;
  return Array.from({ length: headDim }, (_, i) => {
    let total = 0;
    for (let j = 0; j < headDim; j++) {
      let parity = 0;
      for (let common = i & j; common !== 0; common &= common - 1) parity ^= 1;
      total += (parity === 1 ? -1 : 1) * signs[j]! * vector[j]!;
    }
    return total / Math.sqrt(headDim);
  });
}

/** Inner product of `count` elements, f64. */
export function dot(a: ArrayLike<number>, b: ArrayLike<number>, aOffset = 0, bOffset = 0, count = b.length): number {
  let total = 0;
  for (let j = 0; j < count; j++) total += a[aOffset + j]! * b[bOffset + j]!;
  return total;
}

/** Euclidean norm, f64. */
export function norm(vector: ArrayLike<number>): number {
  return Math.sqrt(dot(vector, vector));
}

/** Attention over the listed records `[tokens, 2, headDim]`, f64. */
export function attendByDefinition(
  query: ArrayLike<number>,
  records: Float32Array,
  tokens: readonly number[],
): { readonly output: number[]; readonly logSum: number } {
  const headDim = query.length;
  const logits = tokens.map((token) => dot(records, query, 2 * token * headDim) / Math.sqrt(headDim));
  const greatest = Math.max(...logits);
  const shares = logits.map((logit) => Math.exp(logit - greatest));
  const total = shares.reduce((sum, share) => sum + share, 0);
  const output = Array.from({ length: headDim }, (_, j) => {
    const mixed = shares.reduce((sum, share, i) => sum + share * records[(2 * tokens[i]! + 1) * headDim + j]!, 0);
    return mixed / total;
  });
  return { output, logSum: greatest + Math.log(total) };
}

/** The indices of the `count` largest values, ties to the smaller index, ascending, by a full sort. */
export function topBySort(values: ArrayLike<number>, count: number, isEligible = (_: number) => true): number[] {
  return Array.from({ length: values.length }, (_, i) => i)
    .filter(isEligible)
    .sort((a, b) => values[b]! - values[a]! || a - b)
    .slice(0, count)
    .sort((a, b) => a - b);
}

/** The share of `wanted` that occurs in `found`. */
export function recall(found: ArrayLike<number>, wanted: readonly number[]): number {
  const set = new Set(Array.from(found));
  return wanted.filter((index) => set.has(index)).length / wanted.length;
}

/** Keys `[tokens, headDim]` and random values as records `[tokens, 2, headDim]`. */
export function recordsOf(keys: Float32Array, values: Float32Array, headDim: number): Float32Array {
  const records = new Float32Array(keys.length * 2);
  for (let at = 0; at < keys.length; at += headDim) {
    records.set(keys.subarray(at, at + headDim), 2 * at);
    records.set(values.subarray(at, at + headDim), 2 * at + headDim);
  }
  return records;
}
