import { InvalidArgumentError } from "@pariskv/quantizer";
import { createTokenCounter, specialTokenCount } from "./count-tokens.js";
import { countSentences, drawHaystackRun } from "./draw-haystack-run.js";
import type { Haystack } from "./haystack.js";
import type { Random } from "./random.js";
import type { Fact } from "./sentences.js";
import type { TaskPlan } from "./task-plan.js";
import type { Task } from "./tasks.js";
import type { TextTokenizer } from "./text-model.js";

/** Half-open range of UTF-16 units of a text. */
export interface CharacterRange {
  readonly begin: number;
  readonly end: number;
}

/** A fact and where its leading space stands in the prompt. */
export interface PlacedFact extends Fact {
  readonly offsetCharacters: number;
}

/** A prompt, the answer it should get, and what is scored of the answer. */
export interface Sample {
  readonly task: Task;
  /** Tokens that prompt, answer and end token may take together. */
  readonly contextTokens: number;
  readonly seed: number;
  /** The text to continue; it begins with a space, and the tokenizer puts the beginning token in front. */
  readonly prompt: string;
  /** Where the space before "Question:" stands in the prompt. */
  readonly questionOffsetCharacters: number;
  /** The answer, from its space to its full stop; the end token should follow. */
  readonly expectedText: string;
  /** The values of the answer, in its order. */
  readonly values: readonly string[];
  /** Where each value stands in `expectedText`, its leading space included. */
  readonly valueRanges: readonly CharacterRange[];
  /** The facts in the order of the prompt. */
  readonly facts: readonly PlacedFact[];
  /** Tokens of the prompt, special tokens included. */
  readonly promptTokens: number;
  /** Tokens of the answer, its end token included. */
  readonly answerTokens: number;
}

/**
 * Where facts go: `random` draws a sentence start for each; `spread` cuts the run into equal parts, two more than there
 * are facts, and draws one in each but the first and the last, so that no fact stands near an end.
 */
export type Placement = "random" | "spread";

/** The token that ends an answer. */
const END_TOKENS = 1;

/**
 * Puts free text around the facts of a plan so that prompt, answer and end token fill `contextTokens`.
 *
 * Facts stand before sentence starts or after the last sentence. When the facts alone are too many, those not asked for
 * are dropped, the first ones first.
 *
 * @throws InvalidArgumentError when the facts asked for, the question and the answer do not fit.
 */
export function assembleSample(options: {
  readonly task: Task;
  readonly contextTokens: number;
  readonly seed: number;
  readonly plan: TaskPlan;
  readonly placement: Placement;
  readonly tokenizer: TextTokenizer;
  readonly haystack: Haystack;
  readonly random: Random;
}): Sample {
  const { task, contextTokens, seed, plan, placement, tokenizer, haystack, random } = options;
  const countTokens = createTokenCounter(tokenizer);
  const sentenceTokens = countSentences(haystack, countTokens);
  const { expectedText, values, valueRanges } = writeAnswer(plan);
  const answerTokens = countTokens(expectedText) + END_TOKENS;
  const frameTokens = specialTokenCount(tokenizer) + countTokens(plan.question.text) + answerTokens;

  const { facts, unusedTokens } = fitFacts(plan.facts, contextTokens - frameTokens, countTokens);
  if (unusedTokens < 0) throw tooSmall(contextTokens, contextTokens - unusedTokens);

  for (let budgetTokens = unusedTokens; ; ) {
    const run = drawHaystackRun({ haystack, sentenceTokens, random, budgetTokens });
    const { text, placed } = placeFacts(run, facts, placement, random);
    const prompt = text + plan.question.text;
    const promptTokens = tokenizer.encode(prompt).length;
    const excessTokens = promptTokens + answerTokens - contextTokens;
    if (excessTokens <= 0) {
      const questionOffsetCharacters = text.length;
      return {
        task,
        contextTokens,
        seed,
        prompt,
        questionOffsetCharacters,
        expectedText,
        values,
        valueRanges,
        facts: placed,
        promptTokens,
        answerTokens,
      };
    }
    // The counts of the pieces were too low for this tokenizer: the free text gives way.
    if (run.length === 0) throw tooSmall(contextTokens, contextTokens + excessTokens);
    budgetTokens -= excessTokens;
  }
}

function writeAnswer(plan: TaskPlan): Pick<Sample, "expectedText" | "values" | "valueRanges"> {
  let expectedText = "";
  const values: string[] = [];
  const valueRanges: CharacterRange[] = [];
  for (const { text, isValue } of plan.question.answer) {
    if (isValue) {
      values.push(text.trim());
      valueRanges.push({ begin: expectedText.length, end: expectedText.length + text.length });
    }
    expectedText += text;
  }
  return { expectedText, values, valueRanges };
}

function fitFacts(facts: readonly Fact[], budgetTokens: number, countTokens: (text: string) => number) {
  const tokens = facts.map((fact) => countTokens(fact.text));
  let unusedTokens = tokens.reduce((sum, count) => sum - count, budgetTokens);
  const kept = facts.filter((fact, index) => {
    if (unusedTokens >= 0 || fact.asked) return true;
    unusedTokens += tokens[index] as number;
    return false;
  });
  return { facts: kept, unusedTokens };
}

function placeFacts(run: readonly string[], facts: readonly Fact[], placement: Placement, random: Random) {
  const slots = run.length + 1;
  const drawSlot = (index: number): number => {
    if (placement === "random") return random.below(slots);
    const partStart = (part: number): number => Math.floor((part * slots) / (facts.length + 2));
    const first = partStart(index + 1);
    return random.between(first, Math.max(first, partStart(index + 2) - 1));
  };
  const slotOfFact = facts.map((_, index) => drawSlot(index)).sort((a, b) => a - b);

  const pieces: string[] = [];
  const placed: PlacedFact[] = [];
  let offsetCharacters = 0;
  const append = (piece: string) => {
    pieces.push(piece);
    offsetCharacters += piece.length;
  };
  for (let slot = 0, next = 0; slot < slots; slot++) {
    for (; slotOfFact[next] === slot; next++) {
      const fact = facts[next] as Fact;
      placed.push({ ...fact, offsetCharacters });
      append(fact.text);
    }
    if (slot < run.length) append(run[slot] as string);
  }
  return { text: pieces.join(""), placed };
}

const tooSmall = (contextTokens: number, neededTokens: number): InvalidArgumentError =>
  new InvalidArgumentError({
    argument: "contextTokens",
    expected: `at least ${neededTokens}, which the facts asked for, the question and the answer take`,
    received: contextTokens,
  });
