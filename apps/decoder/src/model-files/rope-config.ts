import { ModelFileError, UnsupportedError } from "@pariskv/quantizer";
import { z } from "zod";
import { boundedNumber, parseFields, text, wholeNumber } from "./config-fields.js";
import { quoteName } from "./strict-json.js";

/** How positions are stretched beyond those of the first training. */
export type RopeScaling =
  | { readonly type: "none" }
  | {
      readonly type: "llama3";
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      /** In tokens. */
      readonly originalMaxPositions: number;
    };

/** Rotary position embedding: angle of pair i at position p is `p * theta^(-2i/headDim)`, then scaled. */
export interface RopeConfig {
  readonly theta: number;
  readonly scaling: RopeScaling;
}

const DEFAULT_THETA = 10_000;
const theta = boundedNumber(1, 1e15);

/** The fields of config.json that this file reads, in the older form and in the newer one. */
export const ropeFields = {
  rope_theta: theta.nullish(),
  rope_scaling: z.record(z.string(), z.unknown(), "an object or null").nullish(),
  rope_parameters: z.record(z.string(), z.unknown(), "an object or null").nullish(),
  partial_rotary_factor: boundedNumber(0, 1).nullish(),
};

const parametersSchema = z.object({
  rope_type: text(64).nullish(),
  type: text(64).nullish(),
  rope_theta: theta.nullish(),
  partial_rotary_factor: boundedNumber(0, 1).nullish(),
});

const llama3Schema = z.object({
  factor: boundedNumber(1, 1_024),
  low_freq_factor: boundedNumber(1e-3, 1e6),
  high_freq_factor: boundedNumber(1e-3, 1e6),
  original_max_position_embeddings: wholeNumber(1, 2 ** 24),
});

/**
 * Reads rope from the older form (`rope_theta` beside `rope_scaling`) or the newer one (`rope_parameters`).
 *
 * @throws ModelFileError when the fields are malformed or contradict each other.
 * @throws UnsupportedError for scalings other than llama3 and for partial rotation.
 */
export function readRopeConfig(fields: z.output<z.ZodObject<typeof ropeFields>>, path: string): RopeConfig {
  const source = fields.rope_parameters ?? fields.rope_scaling ?? {};
  if (Object.values(source).some((value) => typeof value === "object" && value !== null && !Array.isArray(value))) {
    throw new UnsupportedError({ feature: `rope parameters that differ by layer (${path})` });
  }
  const parameters = parseFields(parametersSchema, source, path);
  const partialFactor = parameters.partial_rotary_factor ?? fields.partial_rotary_factor ?? 1;
  if (partialFactor !== 1)
    throw new UnsupportedError({ feature: `a partial rotary factor of ${partialFactor} (${path})` });
  const outerTheta = fields.rope_theta ?? undefined;
  const innerTheta = parameters.rope_theta ?? undefined;
  if (outerTheta !== undefined && innerTheta !== undefined && outerTheta !== innerTheta) {
    throw new ModelFileError({
      path,
      expected: `a file with one rope_theta`,
      received: `${outerTheta} and ${innerTheta}`,
    });
  }
  const scaling = readScaling(source, parameters.rope_type ?? parameters.type ?? "default", path);
  return { theta: innerTheta ?? outerTheta ?? DEFAULT_THETA, scaling };
}

function readScaling(source: Readonly<Record<string, unknown>>, type: string, path: string): RopeScaling {
  if (type === "default") return { type: "none" };
  if (type !== "llama3") throw new UnsupportedError({ feature: `rope scaling of type ${quoteName(type)} (${path})` });
  const fields = parseFields(llama3Schema, source, path);
  if (fields.low_freq_factor >= fields.high_freq_factor) {
    throw new ModelFileError({
      path,
      expected: "a file whose low_freq_factor is below its high_freq_factor",
      received: `${fields.low_freq_factor} and ${fields.high_freq_factor}`,
    });
  }
  return {
    type: "llama3",
    factor: fields.factor,
    lowFreqFactor: fields.low_freq_factor,
    highFreqFactor: fields.high_freq_factor,
    originalMaxPositions: fields.original_max_position_embeddings,
  };
}
