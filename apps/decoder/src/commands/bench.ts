import { buildNeedleDemo, formatTable } from "@pariskv/evaluation";
import type { CommandIo } from "../cli/command-io.js";
import { EXIT } from "../cli/exit-code.js";
import type { BenchOptions } from "../cli/options.js";
import { prefillWithProgress } from "./answer.js";
import { openSession, policyOf } from "./session.js";

/** Decode steps that are timed at each length, after a few that are not. */
const STEPS = { warm: 3, timed: 40 };

/** One length, decoded one way. */
export interface BenchRow {
  readonly contextTokens: number;
  readonly mode: "dense" | "retrieval";
  readonly medianMs: number;
  /** Tenth and ninetieth percentile. */
  readonly spreadMs: readonly [number, number];
  readonly tokensPerSecond: number;
  readonly readShare: number;
  readonly prefillTokensPerSecond: number;
}

/** Measures decoding at several context lengths, dense and with retrieval, over the same text. */
export async function runBench(options: BenchOptions, io: CommandIo): Promise<number> {
  const rows: BenchRow[] = [];
  let machine = {};
  for (const contextTokens of options.lengths) {
    using session = openSession(
      {
        model: options.model,
        device: options.device,
        kvDtype: options.kvDtype as "auto",
        ctxSize: 0,
        neededTokens: () => 1,
        policy: { ...policyOf(options), mode: "vote" },
        sequences: 2,
        sharedPrefix: true,
      },
      io,
    );
    const { model, tokenizer, context } = session;
    machine = { device: context.device, detail: context.detail };
    const room = model.retriever.memory.maxTokens - STEPS.warm - STEPS.timed;
    if (contextTokens > room) {
      io.writeNotice(`${contextTokens} tokens are skipped: the context has room for ${room}\n`);
      continue;
    }
    const promptIds = tokenizer.encode(buildNeedleDemo({ tokenizer, contextTokens }).prompt);
    const prompt = model.createSequence();
    const prefill = await prefillWithProgress(session, prompt, promptIds, io);
    for (const mode of ["dense", "retrieval"] as const) {
      using sequence = prompt.fork();
      sequence.mode = mode === "dense" ? "dense" : "policy";
      const times: number[] = [];
      let readShare = 0;
      for (let step = 0; step < STEPS.warm + STEPS.timed; step++) {
        const begin = performance.now();
        model.decode([sequence], Int32Array.of(promptIds[step] as number));
        if (step >= STEPS.warm) times.push(performance.now() - begin);
        readShare = model.retriever.statistics.read()[0]?.readShare ?? 0;
        io.signal.throwIfAborted();
      }
      times.sort((a, b) => a - b);
      const at = (share: number) => times[Math.floor(share * (times.length - 1))] as number;
      const prefillTokensPerSecond = prefill.tokensPerSecond;
      const medianMs = at(0.5);
      const spreadMs = [at(0.1), at(0.9)] as const;
      const tokensPerSecond = 1000 / medianMs;
      rows.push({ contextTokens, mode, medianMs, spreadMs, tokensPerSecond, readShare, prefillTokensPerSecond });
    }
  }
  if (options.json) {
    io.writeOutput(`${JSON.stringify({ ...machine, steps: STEPS, rows })}\n`);
    return EXIT.ok;
  }
  const right = { align: "right" } as const;
  const table = formatTable(
    [
      { title: "context", ...right },
      { title: "attention" },
      { title: "ms a token", ...right },
      { title: "10–90 %", ...right },
      { title: "tokens/s", ...right },
      { title: "K and V read", ...right },
      { title: "prefill tokens/s", ...right },
    ],
    rows.map((row) => [
      String(row.contextTokens),
      row.mode,
      row.medianMs.toFixed(2),
      row.spreadMs.map((ms) => ms.toFixed(2)).join("–"),
      row.tokensPerSecond.toFixed(1),
      `${(100 * row.readShare).toFixed(1)} %`,
      row.prefillTokensPerSecond.toFixed(0),
    ]),
  );
  io.writeOutput(`${table}\n`);
  return EXIT.ok;
}
