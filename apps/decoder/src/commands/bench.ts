import { setImmediate } from "node:timers/promises";
import { buildNeedleDemo, formatTable } from "@pariskv/evaluation";
import { InvalidArgumentError } from "@pariskv/quantizer";
import type { Sequence } from "@pariskv/retrieval";
import type { CommandIo } from "../cli/command-io.js";
import { EXIT } from "../cli/exit-code.js";
import type { BenchOptions } from "../cli/options.js";
import { prefillWithProgress } from "./answer.js";
import { openSession, policyOf, type Session } from "./session.js";

/** Decode steps that are timed at each length, after a few that are not. */
const STEPS = { warm: 3, timed: 40 };

const MODES = ["dense", "retrieval"] as const;

/** Decode steps of one length, decoded one way. */
interface StepTimes {
  readonly medianMs: number;
  /** Tenth and ninetieth percentile. */
  readonly spreadMs: readonly [number, number];
  readonly tokensPerSecond: number;
  readonly readShare: number;
}

interface BenchRow extends StepTimes {
  readonly contextTokens: number;
  readonly mode: (typeof MODES)[number];
  readonly prefillTokensPerSecond: number;
}

/**
 * Measures decoding at several context lengths, dense and with retrieval, over the same text. Lengths that the context
 * has no room for are skipped and named; when all are, it is a mistake in the command line.
 */
export async function runBench(options: BenchOptions, io: CommandIo): Promise<number> {
  const steps = STEPS.warm + STEPS.timed;
  const policy = { ...policyOf(options), mode: "vote" } as const;
  using session = await openSession({ ...options, ctxSize: 0, policy, sequences: 2, forkTokens: steps }, io);
  const { model, tokenizer, context } = session;
  const room = model.maxTokens - steps;
  const shortest = Math.min(...options.lengths);
  if (shortest > room) {
    const expected = `at most ${room}, which the context has room for, at least once`;
    throw new InvalidArgumentError({ argument: "--lengths", expected, received: shortest });
  }
  const rows: BenchRow[] = [];
  for (const contextTokens of options.lengths) {
    if (contextTokens > room) {
      io.writeNotice(`${contextTokens} tokens are skipped: the context has room for ${room}\n`);
      continue;
    }
    const promptIds = tokenizer.encode(buildNeedleDemo({ tokenizer, contextTokens }).prompt);
    using prompt = model.createSequence();
    const { tokensPerSecond: prefillTokensPerSecond } = await prefillWithProgress(session, prompt, promptIds, io);
    for (const mode of MODES) {
      const times = await timeSteps(session, prompt, mode, promptIds.subarray(0, steps), io);
      rows.push({ contextTokens, mode, prefillTokensPerSecond, ...times });
    }
  }
  const { device, detail } = context;
  io.writeOutput(options.json ? `${JSON.stringify({ device, detail, steps: STEPS, rows })}\n` : describe(rows));
  return EXIT.ok;
}

/** Decodes `tokenIds` one by one on a fork of the prompt; the first `STEPS.warm` are not timed. */
async function timeSteps(
  { model }: Session,
  prompt: Sequence,
  mode: BenchRow["mode"],
  tokenIds: Uint32Array,
  io: CommandIo,
): Promise<StepTimes> {
  using sequence = prompt.fork();
  sequence.mode = mode === "dense" ? "dense" : "policy";
  const times: number[] = [];
  let readShare = 0;
  for (const [step, token] of tokenIds.entries()) {
    const begin = performance.now();
    model.decode([sequence], Int32Array.of(token));
    if (step >= STEPS.warm) times.push(performance.now() - begin);
    readShare = model.retriever.statistics.read()[0]?.readShare ?? 0;
    await setImmediate(); // an interrupt is heard between two steps
    io.signal.throwIfAborted();
  }
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.floor(share * (times.length - 1))] as number;
  const medianMs = at(0.5);
  return { medianMs, spreadMs: [at(0.1), at(0.9)], tokensPerSecond: 1000 / medianMs, readShare };
}

function describe(rows: readonly BenchRow[]): string {
  const right = { align: "right" } as const;
  const columns = [
    { title: "context", ...right },
    { title: "attention" },
    { title: "ms a token", ...right },
    { title: "10–90 %", ...right },
    { title: "tokens/s", ...right },
    { title: "K and V read", ...right },
    { title: "prefill tokens/s", ...right },
  ];
  const cells = rows.map((row) => [
    String(row.contextTokens),
    row.mode,
    row.medianMs.toFixed(2),
    row.spreadMs.map((ms) => ms.toFixed(2)).join("–"),
    row.tokensPerSecond.toFixed(1),
    `${(100 * row.readShare).toFixed(1)} %`,
    row.prefillTokensPerSecond.toFixed(0),
  ]);
  return `${formatTable(columns, cells)}\n`;
}
