import { InvalidArgumentError } from "@pariskv/quantizer";
import { ROW, ROW_FIELDS } from "../layout.js";
import { checkCount, checkLength, checkMatrix, type Matrix } from "./matrix.js";

/**
 * Rotary position embedding in place: on each of `heads` heads of a row, the pair (j, j + headDim / 2) turns by
 * position * frequencies[j]. `table` is `[rowCount, 2] i32` of slot and position; rows of slot -1 are skipped.
 * Angles, cosines and sines are taken in float64, so that they are right to f32 at any position. Throws
 * InvalidArgumentError for an odd headDim and for arrays that are too short.
 */
export function rope(args: {
  x: Matrix;
  heads: number;
  headDim: number;
  frequencies: Float32Array;
  table: Int32Array;
  rowCount: number;
}): void {
  const { x, heads, headDim, frequencies, table, rowCount } = args;
  checkCount("heads", heads);
  checkCount("headDim", headDim, 2);
  if (headDim % 2 !== 0) {
    throw new InvalidArgumentError({ argument: "headDim", expected: "even", received: headDim });
  }
  checkCount("rowCount", rowCount);
  const half = headDim / 2;
  checkLength("frequencies", frequencies, half);
  checkLength("table", table, rowCount * ROW_FIELDS);
  checkMatrix("x", x, rowCount, heads * headDim);
  for (let r = 0; r < rowCount; r++) {
    if (table[r * ROW_FIELDS + ROW.SLOT]! < 0) continue;
    const position = table[r * ROW_FIELDS + ROW.POSITION]!;
    const row = x.offset + r * x.rowStride;
    for (let j = 0; j < half; j++) {
      const angle = position * frequencies[j]!;
      const cosine = Math.fround(Math.cos(angle));
      const sine = Math.fround(Math.sin(angle));
      for (let head = 0; head < heads; head++) {
        const at = row + head * headDim + j;
        const first = x.data[at]!;
        const second = x.data[at + half]!;
        x.data[at] = first * cosine - second * sine;
        x.data[at + half] = second * cosine + first * sine;
      }
    }
  }
}
