import type { GenerationDefaults } from "../model-files/generation-config.js";
import { Sampler } from "../text/sampler.js";

/** The sampling flags; what is not given comes from the model. */
export interface SamplingFlags {
  readonly temperature: number | undefined;
  readonly topK: number | undefined;
  readonly topP: number | undefined;
  readonly minP: number | undefined;
  readonly seed: number | undefined;
}

/** A sampler by flags, then by the model's generation_config.json; the seed is returned so that it can be reported. */
export function samplerOf(flags: SamplingFlags, defaults: GenerationDefaults): { sampler: Sampler; seed: number } {
  const seed = flags.seed ?? Math.floor(Math.random() * 2 ** 32);
  const sampler = new Sampler({
    temperature: flags.temperature ?? defaults.temperature,
    topK: flags.topK ?? defaults.topK,
    topP: flags.topP ?? defaults.topP,
    minP: flags.minP ?? defaults.minP,
    seed,
  });
  return { sampler, seed };
}
