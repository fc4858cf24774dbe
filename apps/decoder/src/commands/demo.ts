import { buildNeedleDemo, formatTable, scoreValues } from "@pariskv/evaluation";
import type { CommandIo } from "../cli/command-io.js";
import { EXIT } from "../cli/exit-code.js";
import type { DemoOptions } from "../cli/options.js";
import { Sampler } from "../text/sampler.js";
import { type Answer, generateAnswer, prefillWithProgress } from "./answer.js";
import { openContext, openSession, policyOf } from "./session.js";

/** Tokens of the haystack that each kind of backend reads in about a minute. */
const HAYSTACK_TOKENS = { simd: 16_384, portable: 8_192, reference: 2_048 };

/** Room for the answer beyond the haystack, whose length includes the expected answer. */
const SPARE_TOKENS = 64;

/**
 * The main job: hides values in a long text, reads it once, and decodes the answer twice, with dense attention and with
 * retrieval. Exit code 0 when every asked value is right in both.
 */
export async function runDemo(options: DemoOptions, io: CommandIo): Promise<number> {
  const contextTokens = options.ctxSize ?? defaultHaystack(options.device);
  using session = openSession(
    {
      model: undefined,
      device: options.device,
      kvDtype: options.kvDtype as "auto",
      ctxSize: contextTokens + SPARE_TOKENS,
      // The demo shows retrieval at any length, also where dense attention would be as fast.
      policy: { ...policyOf(options), mode: "vote" },
      sequences: 3,
      sharedPrefix: true,
    },
    io,
  );
  const { model, tokenizer, context } = session;
  if (context.device === "reference") {
    io.writeNotice("pure TypeScript: no native addon on this machine, so the demo reads a shorter text\n");
  }
  const sample = buildNeedleDemo({ tokenizer, contextTokens, seed: options.seed });
  const promptIds = tokenizer.encode(sample.prompt);
  const say = options.json ? () => {} : io.writeOutput;
  say(`\nA text of ${promptIds.length} tokens hides ${sample.facts.length} facts. The question at its end:\n`);
  say(`${sample.prompt.slice(sample.questionOffsetCharacters)}\n\n`);

  const prompt = model.createSequence();
  const { logits, tokensPerSecond } = await prefillWithProgress(session, prompt, promptIds, io);
  const answers: Record<"dense" | "retrieval", Answer> = {} as never;
  for (const mode of ["dense", "retrieval"] as const) {
    using sequence = prompt.fork();
    sequence.mode = mode === "dense" ? "dense" : "policy";
    say(`\n${mode === "dense" ? "dense attention" : `retrieval, K = ${options.retrievalK}`}:`);
    answers[mode] = await generateAnswer(
      session,
      sequence,
      {
        firstLogits: logits,
        maxTokens: sample.answerTokens + 16,
        choose: greedy(),
        onText: say,
      },
      io,
    );
    say("\n");
    io.signal.throwIfAborted();
  }
  const report = (["dense", "retrieval"] as const).map((mode) => {
    const score = scoreValues(answers[mode].text, sample);
    return { mode, valuesRight: Math.round(score.inPlaceShare * sample.values.length), ...answers[mode] };
  });
  const memory = { ...model.retriever.memory.bytes, weights: model.weightBytes };
  const allRight = report.every((row) => row.valuesRight === sample.values.length);
  if (options.json) {
    const { values, seed } = sample;
    const machine = { device: context.device, detail: context.detail };
    const prefill = { tokens: promptIds.length, tokensPerSecond };
    io.writeOutput(`${JSON.stringify({ ...machine, seed, prefill, values, modes: report, memoryBytes: memory })}\n`);
  } else {
    const right = { align: "right" } as const;
    const table = formatTable(
      [
        { title: "" },
        { title: "values right", ...right },
        { title: "tokens/s", ...right },
        { title: "keys read", ...right },
        { title: "K and V touched", ...right },
        { title: "summaries touched", ...right },
      ],
      report.map((row) => [
        row.mode,
        `${row.valuesRight} of ${sample.values.length}`,
        row.tokensPerSecond.toFixed(1),
        `${(100 * row.readShare).toFixed(1)} %`,
        megabytes(row.kvBytesRead),
        megabytes(row.summaryBytesRead),
      ]),
    );
    const parts = Object.entries(memory).map(([purpose, bytes]) => `${purpose} ${megabytes(bytes)}`);
    say(`\n${table}\n\nmemory: ${parts.join(", ")}\n`);
    say(`backend: ${context.device} (${context.detail})\n`);
  }
  if (!allRight) io.writeNotice("not every value is right\n");
  return allRight ? EXIT.ok : EXIT.failure;
}

function defaultHaystack(device: string): number {
  using context = openContext(device);
  if (context.device === "reference") return HAYSTACK_TOKENS.reference;
  return context.detail.startsWith("portable") ? HAYSTACK_TOKENS.portable : HAYSTACK_TOKENS.simd;
}

function greedy(): (logits: Float32Array) => number {
  const sampler = new Sampler({ temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0 });
  return (logits) => sampler.choose(logits);
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
