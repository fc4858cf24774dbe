import { checkCount, checkElements, checkLength, checkMatrix, type Elements, type Matrix } from "./matrix.js";
import { Widened } from "./widened.js";

const widened = new Widened();

/**
 * Copies the rows of an embedding table: out `[rowCount, width] f32` = weight `[vocab, width]` at `tokens`
 * `[rowCount] i32`. A token outside the vocabulary gives zeros. Throws InvalidArgumentError for arrays that are too
 * short.
 */
export function embed(args: {
  tokens: Int32Array;
  weight: Elements;
  vocab: number;
  width: number;
  rowCount: number;
  out: Matrix;
}): void {
  const { tokens, weight, vocab, width, rowCount, out } = args;
  checkCount("vocab", vocab);
  checkCount("width", width);
  checkCount("rowCount", rowCount);
  checkLength("tokens", tokens, rowCount);
  checkElements("weight", weight, vocab * width);
  checkMatrix("out", out, rowCount, width);
  widened.reserve(width);
  for (let r = 0; r < rowCount; r++) {
    const token = tokens[r]!;
    const to = out.offset + r * out.rowStride;
    if (token < 0 || token >= vocab) {
      out.data.fill(0, to, to + width);
      continue;
    }
    widened.widen(weight, weight.offset + token * width, width, 0);
    for (let c = 0; c < width; c++) out.data[to + c] = widened.f32[c]!;
  }
}
