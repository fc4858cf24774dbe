import type { Sample } from "./assemble-sample.js";
import type { Task } from "./tasks.js";

/** How much of an answer is right. */
export interface ValueScore {
  /** Share of the values that stand at their own place of the answer, 0 … 1. */
  readonly inPlaceShare: number;
  /** Share of the values that stand anywhere in the text, 0 … 1; case does not count. */
  readonly foundShare: number;
  /** Values right before the first that is not in its place. */
  readonly valuesBeforeFirstSlip: number;
  /** Whether the answer, up to its full stop, is the expected one. */
  readonly exact: boolean;
}

/** What scoring reads of a sample. */
export type ScoredSample = Pick<Sample, "task" | "values" | "expectedText">;

/** The answer ends at its first full stop: no value holds one. */
const answerOf = (text: string): string => (text.split(".", 1)[0] as string).trim();

/** The values an answer claims, by place: stops after arrows, right sides of assignments, last words of list entries. */
function valuesInOrder(task: Task, text: string): string[] {
  const answer = answerOf(text);
  if (task === "walk" || task === "walk_long") {
    return answer
      .split("->")
      .slice(1)
      .map((stop) => stop.trim());
  }
  if (task === "vt") {
    return answer
      .split("=")
      .slice(1)
      .map((right) => right.trim());
  }
  return answer.split(";").map((entry) => entry.trim().split(/\s+/).at(-1) as string);
}

/**
 * Scores generated text against a sample, value by value, in the manner of RULER: the share of the references found,
 * and beside it the share in place, which a text that lists every number would not reach.
 *
 * @param generatedText - what the model wrote after the prompt; text after the first full stop counts as found only.
 */
export function scoreValues(generatedText: string, sample: ScoredSample): ValueScore {
  const { task, values, expectedText } = sample;
  const claimed = valuesInOrder(task, generatedText);
  const lowerCaseText = generatedText.toLowerCase();
  const inPlace = values.map((value, index) => claimed[index] === value);
  const found = values.filter((value) => lowerCaseText.includes(value.toLowerCase()));
  const firstSlip = inPlace.indexOf(false);
  return {
    inPlaceShare: inPlace.filter(Boolean).length / values.length,
    foundShare: found.length / values.length,
    valuesBeforeFirstSlip: firstSlip < 0 ? values.length : firstSlip,
    exact: answerOf(generatedText) === answerOf(expectedText),
  };
}
