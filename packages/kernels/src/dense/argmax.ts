import { checkCount, checkLength, checkMatrix, type Matrix } from "./matrix.js";

/**
 * The greedy choice: out `[rowCount] i32` = index of the largest of x `[rowCount, width]`, ties to the smaller index.
 * NaN never wins; a row of NaN alone gives 0. Throws InvalidArgumentError for arrays that are too short.
 */
export function argmax(args: { x: Matrix; width: number; rowCount: number; out: Int32Array }): void {
  const { x, width, rowCount, out } = args;
  checkCount("width", width);
  checkCount("rowCount", rowCount);
  checkMatrix("x", x, rowCount, width);
  checkLength("out", out, rowCount);
  for (let r = 0; r < rowCount; r++) {
    const from = x.offset + r * x.rowStride;
    let best = -1;
    let largest = Number.NEGATIVE_INFINITY;
    for (let c = 0; c < width; c++) {
      const value = x.data[from + c]!;
      // The first value that is not NaN wins even when it is -Infinity.
      if (value > largest || (best < 0 && value === largest)) {
        largest = value;
        best = c;
      }
    }
    out[r] = Math.max(0, best);
  }
}
