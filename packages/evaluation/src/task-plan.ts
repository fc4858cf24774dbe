import type { TokenCounter } from "./count-tokens.js";
import type { Random } from "./random.js";
import type { Fact, Question } from "./sentences.js";

/** What a sample says and asks, before free text is put around its facts. */
export interface TaskPlan {
  /** The facts in the order of the prompt. */
  readonly facts: readonly Fact[];
  readonly question: Question;
}

/** What planning a task needs to know. */
export interface PlanRequest {
  /** Tokens of prompt, answer and end token together, at most. */
  readonly contextTokens: number;
  readonly seed: number;
  readonly random: Random;
  readonly countTokens: TokenCounter;
}

/** Examples that an average is taken over. */
const EXAMPLES = 32;

/** The average tokens of a sentence, from a few examples; never below one. */
export function averageTokens(countTokens: TokenCounter, drawExample: () => string): number {
  const examples = Array.from({ length: EXAMPLES }, drawExample);
  return Math.max(1, countTokens(examples.join("")) / EXAMPLES);
}
