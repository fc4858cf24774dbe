import { decodeFloat16 } from "@pariskv/quantizer";
import type { Elements } from "./matrix.js";

let halves: Float32Array | undefined;

/** Every IEEE half as f32, `[65536] f32`; made when the first f16 value is read. */
function halfTable(): Float32Array {
  if (halves === undefined) {
    halves = new Float32Array(65_536);
    decodeFloat16(
      new Uint16Array(65_536).map((_, bits) => bits),
      halves,
    );
  }
  return halves;
}

/** Room for values widened to f32; it grows to the largest request and is then reused. */
export class Widened {
  /** What was widened last; a new array after `reserve` has grown it. */
  f32 = new Float32Array(0);
  #bits = new Uint32Array(0);

  /** Makes room for `count` elements; what was there is lost when it grows. */
  reserve(count: number): void {
    if (this.f32.length >= count) return;
    this.f32 = new Float32Array(count);
    this.#bits = new Uint32Array(this.f32.buffer);
  }

  /** Writes `count` elements of `source`, from its element `from` on (counted in `data`), to `f32[at ..]`. */
  widen({ data, dtype }: Pick<Elements, "data" | "dtype">, from: number, count: number, at: number): void {
    if (dtype === "bf16") {
      const bits = this.#bits;
      for (let i = 0; i < count; i++) bits[at + i] = data[from + i]! << 16;
      return;
    }
    const f32 = this.f32;
    if (dtype === "f32") {
      for (let i = 0; i < count; i++) f32[at + i] = data[from + i]!;
      return;
    }
    const table = halfTable();
    for (let i = 0; i < count; i++) f32[at + i] = table[data[from + i]!]!;
  }
}
