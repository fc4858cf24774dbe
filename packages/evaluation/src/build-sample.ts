import { assembleSample, type Sample } from "./assemble-sample.js";
import { createTokenCounter } from "./count-tokens.js";
import type { Haystack } from "./haystack.js";
import { loadHaystack } from "./load-haystack.js";
import {
  planList,
  planListLong,
  planMultikey,
  planMultikeyDense,
  planMultiquery,
  planMultivalue,
  planSingle,
} from "./plan-lookup.js";
import { planVariables } from "./plan-variables.js";
import { planWalk, planWalkLong } from "./plan-walk.js";
import { createRandom } from "./random.js";
import type { PlanRequest, TaskPlan } from "./task-plan.js";
import { type Task, validTask } from "./tasks.js";
import type { TextTokenizer } from "./text-model.js";
import { validContextTokens, validSeed } from "./validate.js";

/** The name of the generator in reports: it changes whenever a seed gives another text. */
export const GENERATOR_NAME = "@pariskv/evaluation/needle@1";

const PLAN: Record<Task, (request: PlanRequest) => TaskPlan> = {
  single_num: (request) => planSingle(request, "number"),
  single_word: (request) => planSingle(request, "word"),
  single_uuid: (request) => planSingle(request, "uuid"),
  multikey: planMultikey,
  multikey_dense: planMultikeyDense,
  multivalue: planMultivalue,
  multiquery: planMultiquery,
  vt: planVariables,
  list: planList,
  list_long: planListLong,
  walk: planWalk,
  walk_long: planWalkLong,
};

/**
 * Builds the sample of a task: the same options give the same text, whatever was built before.
 *
 * @param options.task - one of {@link TASKS}.
 * @param options.contextTokens - tokens that prompt, answer and end token fill, 1,024 to 1,048,576.
 * @param options.seed - a whole number, 0 or more; `vt` chains have `seed % 4 + 1` assignments.
 * @param options.tokenizer - the model's own tokenizer.
 * @param options.haystack - free text; the packaged one when absent.
 * @throws InvalidArgumentError when an option is out of its range, or the answer does not fit `contextTokens`.
 */
export function buildSample(options: {
  readonly task: Task;
  readonly contextTokens: number;
  readonly seed: number;
  readonly tokenizer: TextTokenizer;
  readonly haystack?: Haystack | undefined;
}): Sample {
  const { tokenizer, haystack = loadHaystack() } = options;
  const task = validTask(options.task);
  const contextTokens = validContextTokens(options.contextTokens);
  const seed = validSeed(options.seed);
  const random = createRandom(`${task}/${contextTokens}/${seed}`);
  const plan = PLAN[task]({ contextTokens, seed, random, countTokens: createTokenCounter(tokenizer) });
  return assembleSample({ task, contextTokens, seed, plan, placement: "random", tokenizer, haystack, random });
}
