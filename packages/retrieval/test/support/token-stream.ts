import type { Dtype } from "@pariskv/kernels";
import { fromBfloat16, toBfloat16 } from "@pariskv/quantizer";
import { Random } from "../../../kernels/test/support/random.js";
import type { AttentionShape, LayerArrays, PrefillArrays } from "../../src/index.js";

/** What every layer of a model would compute for the tokens of one text: drawn once, with a seed. */
export class TokenStream {
  /** For each layer `[tokens, kvHeads, headDim]`, rounded to the dtype of K and V. */
  readonly k: readonly Float32Array[];
  /** For each layer `[tokens, kvHeads, headDim]`, rounded likewise. */
  readonly v: readonly Float32Array[];
  /** For each layer `[tokens, queryHeads, headDim]`. */
  readonly q: readonly Float32Array[];

  constructor(
    readonly shape: AttentionShape,
    readonly dtype: Dtype,
    readonly tokens: number,
    seed: number,
  ) {
    const random = new Random(seed);
    const draw = (heads: number, scale: number) =>
      Array.from({ length: shape.layers }, () => random.normals(tokens * heads * shape.headDim).map((x) => x * scale));
    const round = (arrays: Float32Array[]) =>
      dtype === "bf16" ? arrays.map((values) => values.map((x) => fromBfloat16(toBfloat16(x)))) : arrays;
    this.k = round(draw(shape.kvHeads, 1));
    this.v = round(draw(shape.kvHeads, 1));
    // Sharp enough that a few keys carry much of the mass.
    this.q = draw(shape.queryHeads, 2.5);
  }

  /** K and V of positions `[begin, end)`. */
  prefill(layer: number, begin: number, end: number): PrefillArrays {
    const width = this.shape.kvHeads * this.shape.headDim;
    const part = (array: Float32Array | undefined) => (array as Float32Array).subarray(begin * width, end * width);
    return { k: part(this.k[layer]), v: part(this.v[layer]) };
  }

  /** Query, key and value of one position. */
  decode(layer: number, position: number): LayerArrays {
    const width = this.shape.queryHeads * this.shape.headDim;
    const q = (this.q[layer] as Float32Array).subarray(position * width, (position + 1) * width);
    return { q, ...this.prefill(layer, position, position + 1) };
  }
}
