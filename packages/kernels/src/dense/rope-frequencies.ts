import { InvalidArgumentError } from "@pariskv/quantizer";
import { checkCount } from "./matrix.js";

/** How frequencies are changed for contexts longer than those of the first training. */
export type RopeScaling =
  | { readonly type: "none" }
  | {
      readonly type: "llama3";
      /** By how much the slow pairs are slowed down. */
      readonly factor: number;
      /** Pairs that turn fewer times than this in the original context are slowed down in full. */
      readonly lowFreqFactor: number;
      /** Pairs that turn more times than this in the original context stay as they are. */
      readonly highFreqFactor: number;
      /** Context of the first training, in tokens. */
      readonly originalMaxPositions: number;
    };

/**
 * The angle per token of each pair of a head, `[headDim / 2] f32`: theta^(-2j / headDim), scaled where asked, computed in
 * float64 and rounded once. `llama3` slows a pair down by how often it turns in the original context, with a linear
 * transition between the two bounds. Throws InvalidArgumentError for an odd headDim and for numbers out of range.
 *
 * @example
 * const frequencies = ropeFrequencies({ headDim: 128, theta: 1e6 });
 * frequencies[0]; // 1 radian per token
 */
export function ropeFrequencies(args: { headDim: number; theta: number; scaling?: RopeScaling }): Float32Array {
  const { headDim, theta, scaling = { type: "none" } } = args;
  checkCount("headDim", headDim, 2);
  if (headDim % 2 !== 0) {
    throw new InvalidArgumentError({ argument: "headDim", expected: "even", received: headDim });
  }
  requirePositive("theta", theta);
  if (scaling.type === "llama3") {
    requirePositive("scaling.factor", scaling.factor);
    requirePositive("scaling.lowFreqFactor", scaling.lowFreqFactor);
    requirePositive("scaling.originalMaxPositions", scaling.originalMaxPositions);
    if (!(scaling.highFreqFactor > scaling.lowFreqFactor && scaling.highFreqFactor < Number.POSITIVE_INFINITY)) {
      throw new InvalidArgumentError({
        argument: "scaling.highFreqFactor",
        expected: "a finite number above lowFreqFactor",
        received: scaling.highFreqFactor,
      });
    }
  }
  return Float32Array.from({ length: headDim / 2 }, (_, j) => scaled(theta ** ((-2 * j) / headDim), scaling));
}

function scaled(frequency: number, scaling: RopeScaling): number {
  if (scaling.type === "none") return frequency;
  const turns = (scaling.originalMaxPositions * frequency) / (2 * Math.PI);
  const { lowFreqFactor, highFreqFactor, factor } = scaling;
  const keep = Math.min(1, Math.max(0, (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor)));
  return keep * frequency + ((1 - keep) * frequency) / factor;
}

function requirePositive(argument: string, value: number): void {
  if (!(value > 0 && value < Number.POSITIVE_INFINITY)) {
    throw new InvalidArgumentError({ argument, expected: "a finite number above 0", received: value });
  }
}
