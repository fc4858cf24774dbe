import type { Dtype } from "../../src/context.js";
import { encodeAs } from "../support/scene.js";
import { roundTo } from "../support/scene-data.js";

export const DTYPES: readonly Dtype[] = ["f32", "bf16", "f16"];

/** Numbers as a dtype stores them: the elements to hand over, and the f32 values that they stand for. */
export function storeAs(
  dtype: Dtype,
  numbers: Float32Array,
): { data: Float32Array | Uint16Array; values: Float32Array } {
  const values = numbers.map((value) => roundTo(dtype, value));
  return { data: encodeAs(dtype, values), values };
}

/** Rows of a linear layer in float64, and for each the sum of magnitudes that its rounding errors are a share of. */
export function linearOracle(args: {
  x: Float32Array;
  xStride: number;
  weight: Float32Array;
  bias?: Float32Array | undefined;
  older?: Float32Array | undefined;
  inWidth: number;
  outWidth: number;
  outStride: number;
  rowCount: number;
}): { at: number; value: number; magnitude: number }[] {
  const { x, xStride, weight, bias, older, inWidth, outWidth, outStride, rowCount } = args;
  const results = [];
  for (let r = 0; r < rowCount; r++) {
    for (let o = 0; o < outWidth; o++) {
      const at = r * outStride + o;
      const terms = [bias?.[o] ?? 0, older?.[at] ?? 0];
      let value = terms[0]! + terms[1]!;
      let magnitude = Math.abs(terms[0]!) + Math.abs(terms[1]!);
      for (let c = 0; c < inWidth; c++) {
        const product = x[r * xStride + c]! * weight[o * inWidth + c]!;
        value += product;
        magnitude += Math.abs(product);
      }
      results.push({ at, value, magnitude });
    }
  }
  return results;
}

/** One group of rmsnorm in float64. */
export function rmsnormOracle(x: Float32Array, weight: Float32Array, eps: number): number[] {
  let squares = 0;
  for (const value of x) squares += value * value;
  const root = Math.sqrt(squares / x.length + eps);
  return Array.from(x, (value, c) => (value / root) * weight[c]!);
}

/** One head of rope in float64, by complex multiplication. */
export function ropeOracle(x: Float32Array, position: number, frequencies: Float32Array): number[] {
  const half = x.length / 2;
  const turned = new Array<number>(x.length);
  for (let j = 0; j < half; j++) {
    const [re, im] = [Math.cos(position * frequencies[j]!), Math.sin(position * frequencies[j]!)];
    turned[j] = x[j]! * re - x[j + half]! * im;
    turned[j + half] = x[j]! * im + x[j + half]! * re;
  }
  return turned;
}

/** silu(gate) * up in float64. */
export function swigluOracle(gate: number, up: number): number {
  return (gate / (1 + Math.exp(-gate))) * up;
}

/** Index of the largest number, by its definition; 0 when there is none. */
export function argmaxOracle(x: Float32Array): number {
  const numbers = Array.from(x).filter((value) => !Number.isNaN(value));
  const largest = numbers.reduce((best, value) => Math.max(best, value), Number.NEGATIVE_INFINITY);
  return Math.max(0, x.indexOf(largest));
}
