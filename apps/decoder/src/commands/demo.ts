import { buildNeedleDemo, formatTable, type Sample, scoreValues } from "@pariskv/evaluation";
import type { Sequence } from "@pariskv/retrieval";
import type { CommandIo } from "../cli/command-io.js";
import { EXIT } from "../cli/exit-code.js";
import type { DemoOptions } from "../cli/options.js";
import { mostLikely } from "../text/most-likely.js";
import { type Answer, generateAnswer, type Prefill, prefillWithProgress } from "./answer.js";
import { openContext, openSession, policyOf, type Session } from "./session.js";

/** Tokens of the haystack that each kind of backend reads in about a minute. */
const HAYSTACK_TOKENS = { simd: 16_384, portable: 8_192, reference: 2_048 };

/** Tokens that an answer may be longer than the expected one, where the context has room for them. */
const SPARE_TOKENS = 16;

/** Most tokens of an answer, which has a few values of a few digits: what the forks need pages for. */
const MAX_ANSWER_TOKENS = 512;

const MODES = ["dense", "retrieval"] as const;

/** One answer, and how many of its values are right. */
interface ModeReport extends Answer {
  readonly mode: (typeof MODES)[number];
  readonly valuesRight: number;
}

/**
 * The main job: hides values in a long text, reads it once, and decodes the answer twice, with dense attention and with
 * retrieval. Exit code 0 when every asked value is right in both.
 */
export async function runDemo(options: DemoOptions, io: CommandIo): Promise<number> {
  const contextTokens = options.ctxSize ?? defaultHaystack(options.device);
  // The demo shows retrieval at any length, also where dense attention would be as fast.
  const policy = { ...policyOf(options), mode: "vote" } as const;
  const memory = { ctxSize: contextTokens, sequences: 3, forkTokens: MAX_ANSWER_TOKENS };
  using session = await openSession({ ...options, ...memory, model: undefined, policy }, io);
  const { model, tokenizer, context } = session;
  if (options.ctxSize === undefined && context.device === "reference") {
    io.writeNotice(`plain TypeScript reads slowly: the text of this demo is shorter, ${contextTokens} tokens\n`);
  }
  // Prompt and answer together fill `contextTokens`.
  const sample = buildNeedleDemo({ tokenizer, contextTokens, seed: options.seed });
  const say = options.json ? () => {} : io.writeOutput;
  say(`\nA text of ${sample.promptTokens} tokens hides ${sample.facts.length} facts. The question at its end:\n`);
  say(`${sample.prompt.slice(sample.questionOffsetCharacters)}\n\n`);

  const prompt = model.createSequence();
  const prefill = await prefillWithProgress(session, prompt, tokenizer.encode(sample.prompt), io);
  const reports: ModeReport[] = [];
  for (const mode of MODES) {
    say(`\n${mode === "dense" ? "dense attention" : `retrieval, K = ${options.retrievalK}`}:`);
    reports.push(await answer(session, prompt, mode, sample, prefill.logits, say, io));
    say("\n");
    io.signal.throwIfAborted();
  }
  const report = options.json ? jsonReport : textReport;
  io.writeOutput(report(session, sample, prefill, reports));
  const allRight = reports.every(({ valuesRight }) => valuesRight === sample.values.length);
  if (!allRight) io.writeNotice("not every value is right\n");
  return allRight ? EXIT.ok : EXIT.failure;
}

function defaultHaystack(device: string): number {
  using context = openContext(device);
  if (context.device === "reference") return HAYSTACK_TOKENS.reference;
  return context.detail.startsWith("portable") ? HAYSTACK_TOKENS.portable : HAYSTACK_TOKENS.simd;
}

/** Answers on a fork of the prompt, greedily. */
async function answer(
  session: Session,
  prompt: Sequence,
  mode: ModeReport["mode"],
  sample: Sample,
  firstLogits: Float32Array,
  onText: (text: string) => void,
  io: CommandIo,
): Promise<ModeReport> {
  using sequence = prompt.fork();
  sequence.mode = mode === "dense" ? "dense" : "policy";
  const maxTokens = Math.min(sample.answerTokens + SPARE_TOKENS, MAX_ANSWER_TOKENS);
  const result = await generateAnswer(session, sequence, { firstLogits, maxTokens, choose: mostLikely, onText }, io);
  const { inPlaceShare } = scoreValues(result.text, sample);
  return { mode, valuesRight: Math.round(inPlaceShare * sample.values.length), ...result };
}

type Report = (session: Session, sample: Sample, prefill: Prefill, reports: readonly ModeReport[]) => string;

const jsonReport: Report = ({ model, context }, { seed, values }, { tokens, tokensPerSecond }, modes) => {
  const { device, detail } = context;
  const prefill = { tokens, tokensPerSecond };
  return `${JSON.stringify({ device, detail, seed, prefill, values, modes, memoryBytes: model.bytes })}\n`;
};

const textReport: Report = ({ model, context }, { values }, _prefill, reports) => {
  const right = { align: "right" } as const;
  const columns = [
    { title: "" },
    { title: "values right", ...right },
    { title: "tokens/s", ...right },
    { title: "keys read", ...right },
    { title: "K and V touched", ...right },
    { title: "summaries touched", ...right },
  ];
  const rows = reports.map(({ mode, valuesRight, tokensPerSecond, readShare, kvBytesRead, summaryBytesRead }) => [
    mode,
    `${valuesRight} of ${values.length}`,
    tokensPerSecond?.toFixed(1) ?? "none",
    readShare === null ? "none" : `${(100 * readShare).toFixed(1)} %`,
    megabytes(kvBytesRead),
    megabytes(summaryBytesRead),
  ]);
  const parts = Object.entries(model.bytes).map(([purpose, bytes]) => `${purpose} ${megabytes(bytes)}`);
  return `\n${formatTable(columns, rows)}\n\nmemory: ${parts.join(", ")}\nbackend: ${context.device} (${context.detail})\n`;
};

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
