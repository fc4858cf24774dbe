import { InvalidArgumentError } from "@pariskv/quantizer";
import { checkCount, checkLength, checkMatrix, type Matrix } from "./matrix.js";

/**
 * Root-mean-square normalisation: out = x / sqrt(mean(x²) + eps) * weight, over `groups` consecutive groups of `width`
 * elements in each of `rowCount` rows, with one weight `[width] f32` for all groups. `out` may be `x`. The mean is
 * taken in float64. Throws InvalidArgumentError for arrays that are too short.
 */
export function rmsnorm(args: {
  x: Matrix;
  weight: Float32Array;
  eps: number;
  width: number;
  groups?: number;
  rowCount: number;
  out: Matrix;
}): void {
  const { x, weight, eps, width, groups = 1, rowCount, out } = args;
  checkCount("width", width);
  checkCount("groups", groups);
  checkCount("rowCount", rowCount);
  if (!(eps >= 0 && eps < Number.POSITIVE_INFINITY)) {
    throw new InvalidArgumentError({ argument: "eps", expected: "a finite number >= 0", received: eps });
  }
  checkLength("weight", weight, width);
  checkMatrix("x", x, rowCount, groups * width);
  checkMatrix("out", out, rowCount, groups * width);
  for (let r = 0; r < rowCount; r++) {
    for (let group = 0; group < groups; group++) {
      const from = x.offset + r * x.rowStride + group * width;
      const to = out.offset + r * out.rowStride + group * width;
      let squares = 0;
      for (let c = 0; c < width; c++) squares += x.data[from + c]! ** 2;
      const scale = 1 / Math.sqrt(squares / width + eps);
      for (let c = 0; c < width; c++) out.data[to + c] = x.data[from + c]! * scale * weight[c]!;
    }
  }
}
