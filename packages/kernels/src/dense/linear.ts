import { checkCount, checkElements, checkLength, checkMatrix, type Elements, type Matrix } from "./matrix.js";
import { Widened } from "./widened.js";

/** Outputs computed together, so that each element of x is read once for all of them. */
const TILE_OUTPUTS = 4;
const widened = new Widened();

/**
 * A linear layer: out `[rowCount, outWidth]` = x `[rowCount, inWidth]` · weightᵀ, plus bias `[outWidth] f32` where
 * given, plus what `out` holds where `accumulate` is set. weight is `[outWidth, inWidth]`. Products are summed in
 * float64 and rounded once, so the error is at most half a unit in the last place of the result. `out` and `x` must
 * not overlap. Throws InvalidArgumentError for arrays that are too short.
 */
export function linear(args: {
  x: Matrix;
  weight: Elements;
  bias?: Float32Array | undefined;
  inWidth: number;
  outWidth: number;
  rowCount: number;
  accumulate?: boolean | undefined;
  out: Matrix;
}): void {
  const { x, weight, bias, inWidth, outWidth, rowCount, accumulate = false, out } = args;
  checkCount("inWidth", inWidth);
  checkCount("outWidth", outWidth);
  checkCount("rowCount", rowCount);
  checkElements("weight", weight, outWidth * inWidth);
  if (bias !== undefined) checkLength("bias", bias, outWidth);
  checkMatrix("x", x, rowCount, inWidth);
  checkMatrix("out", out, rowCount, outWidth);
  // 16-bit weights are widened a tile at a time; f32 weights are read in place.
  if (weight.dtype !== "f32") widened.reserve(TILE_OUTPUTS * inWidth);
  for (let first = 0; first < outWidth; first += TILE_OUTPUTS) {
    const count = Math.min(TILE_OUTPUTS, outWidth - first);
    let weights = weight.data;
    let from = weight.offset + first * inWidth;
    if (weight.dtype !== "f32") {
      widened.widen(weight, from, count * inWidth, 0);
      weights = widened.f32;
      from = 0;
    }
    for (let r = 0; r < rowCount; r++) {
      const to = out.offset + r * out.rowStride + first;
      dots(x.data, x.offset + r * x.rowStride, weights as Float32Array, from, count, inWidth);
      for (let j = 0; j < count; j++) {
        out.data[to + j] =
          sums[j]! + (bias === undefined ? 0 : bias[first + j]!) + (accumulate ? out.data[to + j]! : 0);
      }
    }
  }
}

const sums = new Float64Array(TILE_OUTPUTS);

/** sums[j] = x · weight row j, for `count` rows from element `first` on; the sums past `count` repeat the last row. */
function dots(x: Float32Array, from: number, weights: Float32Array, first: number, count: number, width: number): void {
  const row1 = first + Math.min(1, count - 1) * width;
  const row2 = first + Math.min(2, count - 1) * width;
  const row3 = first + Math.min(3, count - 1) * width;
  let sum0 = 0;
  let sum1 = 0;
  let sum2 = 0;
  let sum3 = 0;
  for (let c = 0; c < width; c++) {
    const value = x[from + c]!;
    sum0 += value * weights[first + c]!;
    sum1 += value * weights[row1 + c]!;
    sum2 += value * weights[row2 + c]!;
    sum3 += value * weights[row3 + c]!;
  }
  sums[0] = sum0;
  sums[1] = sum1;
  sums[2] = sum2;
  sums[3] = sum3;
}
