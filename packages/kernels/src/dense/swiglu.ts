import { checkCount, checkMatrix, type Matrix } from "./matrix.js";

/**
 * The gated activation of a decoder's MLP: out `[rowCount, width]` = silu(gate) * up, where x `[rowCount, 2 width]`
 * holds gate, then up, and silu(g) = g / (1 + exp(-g)). `out` may be `x`. Throws InvalidArgumentError for arrays that
 * are too short.
 */
export function swiglu(args: { x: Matrix; width: number; rowCount: number; out: Matrix }): void {
  const { x, width, rowCount, out } = args;
  checkCount("width", width);
  checkCount("rowCount", rowCount);
  checkMatrix("x", x, rowCount, 2 * width);
  checkMatrix("out", out, rowCount, width);
  for (let r = 0; r < rowCount; r++) {
    const from = x.offset + r * x.rowStride;
    const to = out.offset + r * out.rowStride;
    for (let c = 0; c < width; c++) {
      const gate = x.data[from + c]!;
      out.data[to + c] = (gate / (1 + Math.exp(-gate))) * x.data[from + width + c]!;
    }
  }
}
