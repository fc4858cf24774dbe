import { InvalidArgumentError } from "@pariskv/quantizer";
import type { Dtype } from "../context.js";

/** f32 rows in a typed array: element c of row r is `data[offset + r * rowStride + c]`. All three in elements. */
export interface Matrix {
  readonly data: Float32Array;
  readonly offset: number;
  readonly rowStride: number;
}

/** Weights, K or V in a typed array, from element `offset` on: Float32Array for f32, Uint16Array for bf16 and f16. */
export interface Elements {
  readonly data: Float32Array | Uint16Array;
  readonly dtype: Dtype;
  readonly offset: number;
}

/** Throws InvalidArgumentError unless `value` is an integer of at least `min`. */
export function checkCount(argument: string, value: number, min = 1): void {
  if (!Number.isSafeInteger(value) || value < min) refuse(argument, `an integer >= ${min}`, value);
}

/** Throws InvalidArgumentError unless `matrix` holds `rowCount` rows of `width` elements. */
export function checkMatrix(argument: string, matrix: Matrix, rowCount: number, width: number): void {
  checkCount(`${argument}.offset`, matrix.offset, 0);
  checkCount(`${argument}.rowStride`, matrix.rowStride, width);
  checkLength(`${argument}.data`, matrix.data, matrix.offset + (rowCount - 1) * matrix.rowStride + width);
}

/** Throws InvalidArgumentError unless the array fits the dtype and holds `count` elements from the offset on. */
export function checkElements(argument: string, { data, dtype, offset }: Elements, count: number): void {
  checkCount(`${argument}.offset`, offset, 0);
  if (dtype !== "f32" && dtype !== "bf16" && dtype !== "f16") {
    refuse(`${argument}.dtype`, '"f32", "bf16" or "f16"', dtype);
  }
  const wanted = dtype === "f32" ? Float32Array : Uint16Array;
  if (!(data instanceof wanted)) refuse(`${argument}.data`, `a ${wanted.name} for dtype ${dtype}`, data);
  checkLength(`${argument}.data`, data, offset + count);
}

/** Throws InvalidArgumentError unless `array` holds at least `length` elements. */
export function checkLength(argument: string, array: { readonly length: number }, length: number): void {
  if (array.length < length) refuse(argument, `at least ${length} elements long`, `${array.length} elements`);
}

function refuse(argument: string, expected: string, received: unknown): never {
  throw new InvalidArgumentError({ argument, expected, received });
}
