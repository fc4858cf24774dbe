import type { Dtype } from "@pariskv/kernels";
import { checkGeometry, type KvGeometry } from "@pariskv/memory";
import { InvalidArgumentError } from "@pariskv/quantizer";

/** The attention shape of a model. */
export interface AttentionShape {
  readonly layers: number;
  /** A multiple of `kvHeads`, at most 8 times as many. */
  readonly queryHeads: number;
  readonly kvHeads: number;
  /** 64, 128 or 256. */
  readonly headDim: number;
}

/** The geometry of a shape's KV memory. Throws InvalidArgumentError for shapes that no backend supports. */
export function shapeGeometry(shape: AttentionShape, kvDtype: Dtype): KvGeometry {
  const { layers, queryHeads, kvHeads, headDim } = shape;
  const queryGroup = queryHeads / kvHeads;
  // Without KV heads the group is no number either, but it is not the group that is wrong then.
  if (kvHeads >= 1 && (!Number.isInteger(queryGroup) || queryGroup < 1 || queryGroup > 8)) {
    throw new InvalidArgumentError({
      argument: "queryHeads",
      expected: `1 to 8 times kvHeads (${kvHeads})`,
      received: queryHeads,
    });
  }
  const geometry = { layers, kvHeads, queryGroup, headDim, kvDtype };
  checkGeometry(geometry);
  return geometry;
}
