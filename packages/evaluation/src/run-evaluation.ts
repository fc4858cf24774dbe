import type { Sample } from "./assemble-sample.js";
import { buildSample, GENERATOR_NAME } from "./build-sample.js";
import { formatTable } from "./format-table.js";
import type { Haystack } from "./haystack.js";
import { loadHaystack } from "./load-haystack.js";
import { scoreValues, type ValueScore } from "./score-values.js";
import type { Task } from "./tasks.js";
import type { TextModel } from "./text-model.js";
import { wholeNumber } from "./validate.js";

/** Tokens that an answer may be longer than the expected one, so that a slip does not cut the values after it. */
const SPARE_ANSWER_TOKENS = 8;

/** The mean over the samples of one task at one length. */
export interface EvaluationCell {
  readonly task: Task;
  readonly contextTokens: number;
  readonly samples: number;
  readonly inPlaceShare: number;
  readonly foundShare: number;
  readonly exactShare: number;
  /** Answers without a character other than white space. */
  readonly emptyAnswers: number;
}

/** The result of an evaluation, with what is needed to repeat it. */
export interface EvaluationReport {
  readonly suite: "ruler-style";
  readonly generator: string;
  readonly haystack: string;
  readonly seed: number;
  readonly cells: readonly EvaluationCell[];
}

/** One sample, answered and scored. */
export interface ScoredAnswer {
  readonly sample: Sample;
  readonly generatedText: string;
  readonly score: ValueScore;
}

/**
 * Asks a model the samples of some tasks at some lengths, one after the other, and scores its greedy answers.
 *
 * @param options.contextTokens - the lengths, each 1,024 to 1,048,576 tokens.
 * @param options.samples - samples of each task and length, 1 to 10,000, with the seeds `seed`, `seed + 1`, ….
 * @param options.onAnswer - told of every answer, for progress and logs.
 * @throws InvalidArgumentError when an option is out of its range; what the model throws.
 */
export async function runEvaluation(options: {
  readonly model: TextModel;
  readonly tasks: readonly Task[];
  readonly contextTokens: readonly number[];
  readonly samples: number;
  readonly seed: number;
  readonly haystack?: Haystack | undefined;
  readonly onAnswer?: ((answer: ScoredAnswer) => void) | undefined;
}): Promise<EvaluationReport> {
  const { model, tasks, seed, haystack = loadHaystack(), onAnswer } = options;
  const samples = wholeNumber("samples", options.samples, 1, 10_000);
  const cells: EvaluationCell[] = [];
  for (const contextTokens of options.contextTokens) {
    for (const task of tasks) {
      const answers: ScoredAnswer[] = [];
      for (let index = 0; index < samples; index++) {
        const sample = buildSample({ task, contextTokens, seed: seed + index, tokenizer: model, haystack });
        const maxNewTokens = sample.answerTokens + SPARE_ANSWER_TOKENS;
        const generatedText = await model.generate({ prompt: sample.prompt, maxNewTokens });
        const answer = { sample, generatedText, score: scoreValues(generatedText, sample) };
        answers.push(answer);
        onAnswer?.(answer);
      }
      cells.push(summarise(task, contextTokens, answers));
    }
  }
  return { suite: "ruler-style", generator: GENERATOR_NAME, haystack: haystack.name, seed, cells };
}

/** Renders a report as a plain-text table of percentages, one line a task and length. */
export function formatReport(report: EvaluationReport): string {
  const right = { align: "right" } as const;
  const percent = (share: number): string => (100 * share).toFixed(1);
  return formatTable(
    [
      { title: "task" },
      { title: "tokens", ...right },
      { title: "samples", ...right },
      { title: "in place %", ...right },
      { title: "found %", ...right },
      { title: "exact %", ...right },
      { title: "empty", ...right },
    ],
    report.cells.map((cell) => [
      cell.task,
      String(cell.contextTokens),
      String(cell.samples),
      percent(cell.inPlaceShare),
      percent(cell.foundShare),
      percent(cell.exactShare),
      String(cell.emptyAnswers),
    ]),
  );
}

function summarise(task: Task, contextTokens: number, answers: readonly ScoredAnswer[]): EvaluationCell {
  const mean = (read: (score: ValueScore) => number): number =>
    answers.reduce((sum, { score }) => sum + read(score), 0) / answers.length;
  return {
    task,
    contextTokens,
    samples: answers.length,
    inPlaceShare: mean((score) => score.inPlaceShare),
    foundShare: mean((score) => score.foundShare),
    exactShare: mean((score) => Number(score.exact)),
    emptyAnswers: answers.filter(({ generatedText }) => generatedText.trim() === "").length,
  };
}
