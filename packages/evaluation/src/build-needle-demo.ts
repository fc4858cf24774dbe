import { assembleSample, type Sample } from "./assemble-sample.js";
import { createTokenCounter } from "./count-tokens.js";
import type { Haystack } from "./haystack.js";
import { loadHaystack } from "./load-haystack.js";
import { planLookup } from "./plan-lookup.js";
import { createRandom } from "./random.js";
import type { TextTokenizer } from "./text-model.js";
import { validContextTokens, validSeed, wholeNumber } from "./validate.js";

/** Most needles that are asked for in one answer: the bundled model was trained on two to eight. */
const MAX_ASKED_NEEDLES = 8;

/** Most needles hidden in one text. */
const MAX_NEEDLES = 1000;

/**
 * Builds the text of a demonstration: needles spread over the whole depth of a haystack, several of them asked for in
 * one answer. It is a `multiquery` sample with fewer facts, one in each equal part of the text.
 *
 * @param options.contextTokens - tokens that prompt, answer and end token fill, 1,024 to 1,048,576.
 * @param options.needles - facts hidden, 2 to 1,000 and no fewer than are asked for; 8 when absent.
 * @param options.askedNeedles - facts asked for, 2 to 8; 4, or all when fewer are hidden, when absent.
 * @param options.seed - a whole number, 0 or more; 0 when absent.
 * @param options.tokenizer - the model's own tokenizer.
 * @param options.haystack - free text; the packaged one when absent.
 * @throws InvalidArgumentError when an option is out of its range, or the needles do not fit `contextTokens`.
 */
export function buildNeedleDemo(options: {
  readonly tokenizer: TextTokenizer;
  readonly contextTokens: number;
  readonly needles?: number | undefined;
  readonly askedNeedles?: number | undefined;
  readonly seed?: number | undefined;
  readonly haystack?: Haystack | undefined;
}): Sample {
  const { tokenizer, haystack = loadHaystack() } = options;
  const contextTokens = validContextTokens(options.contextTokens);
  const seed = validSeed(options.seed ?? 0);
  const needles = wholeNumber("needles", options.needles ?? 8, 2, MAX_NEEDLES);
  const askedNeedles = wholeNumber(
    "askedNeedles",
    options.askedNeedles ?? Math.min(4, needles),
    2,
    Math.min(MAX_ASKED_NEEDLES, needles),
  );
  const random = createRandom(`demo/${contextTokens}/${needles}/${askedNeedles}/${seed}`);
  const request = { contextTokens, seed, random, countTokens: createTokenCounter(tokenizer) };
  const plan = planLookup(request, "number", needles, askedNeedles);
  return assembleSample({
    task: "multiquery",
    contextTokens,
    seed,
    plan,
    placement: "spread",
    tokenizer,
    haystack,
    random,
  });
}
