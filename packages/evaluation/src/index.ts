export { buildNeedleDemo } from "./build-needle-demo.js";
export { buildSample, GENERATOR_NAME } from "./build-sample.js";
export { formatTable } from "./format-table.js";
export { createHaystack } from "./haystack.js";
export { loadHaystack } from "./load-haystack.js";
export { formatReport, runEvaluation } from "./run-evaluation.js";
export { scoreTeacherForced, valueTokenRanges } from "./score-teacher-forced.js";
export { scoreValues } from "./score-values.js";
export { TASKS, validTask } from "./tasks.js";
export { MAX_CONTEXT_TOKENS, MIN_CONTEXT_TOKENS } from "./validate.js";

// Types.

export type { CharacterRange, PlacedFact, Sample } from "./assemble-sample.js";
export type { TableColumn } from "./format-table.js";
export type { Haystack } from "./haystack.js";
export type { EvaluationCell, EvaluationReport, ScoredAnswer } from "./run-evaluation.js";
export type { TokenRange } from "./score-teacher-forced.js";
export type { ScoredSample, ValueScore } from "./score-values.js";
export type { Fact } from "./sentences.js";
export type { Task } from "./tasks.js";
export type { TextModel, TextTokenizer } from "./text-model.js";
