import { formatTable } from "@pariskv/evaluation";
import type { CommandIo } from "../cli/command-io.js";
import { EXIT } from "../cli/exit-code.js";
import type { CompareOptions } from "../cli/options.js";
import { readPrompt } from "../cli/prompt-text.js";
import { type Comparison, compareAttention } from "../model/compare-attention.js";
import { prefillWithProgress } from "./answer.js";
import { openSession, policyOf } from "./session.js";

const DEFAULT_TOKENS = 64;

/** Decodes one prompt greedily with dense attention and with retrieval, and says where they differ. */
export async function runCompare(options: CompareOptions, io: CommandIo): Promise<number> {
  const prompt = await readPrompt(options, io);
  const maxTokens = options.maxTokens ?? DEFAULT_TOKENS;
  const policy = { ...policyOf(options), mode: "vote" } as const;
  using session = await openSession(
    { ...options, prompt, policy, estimateMass: true, sequences: 3, forkTokens: maxTokens },
    io,
  );
  const { model, tokenizer, folder, promptIds } = session;
  const sequence = model.createSequence();
  const { logits } = await prefillWithProgress(session, sequence, promptIds, io);
  // The first token comes from the prefill, and the last one is not appended.
  const room = model.maxTokens - sequence.tokens + 1;
  const comparison = await compareAttention(model, sequence, {
    firstLogits: logits,
    maxTokens: Math.min(maxTokens, room),
    endTokenIds: folder.eosTokenIds,
    signal: io.signal,
  });
  const texts = {
    dense: tokenizer.decode(comparison.denseTokenIds),
    retrieval: tokenizer.decode(comparison.retrievalTokenIds),
  };
  if (options.json) {
    const machine = { device: session.context.device, detail: session.context.detail };
    io.writeOutput(`${JSON.stringify({ ...machine, promptTokens: promptIds.length, ...comparison, texts })}\n`);
  } else {
    io.writeOutput(`${describe(comparison, texts)}\n`);
  }
  return EXIT.ok;
}

function describe(comparison: Comparison, texts: { readonly dense: string; readonly retrieval: string }): string {
  const { firstDivergence, klMean, klMax, top1Agreement, denseTokenIds, readShare, estimatedMass } = comparison;
  const rows = [
    ["tokens decoded", String(denseTokenIds.length)],
    ["first divergence", firstDivergence === null ? "none" : `token ${firstDivergence + 1}`],
    ["same most likely token", `${(100 * top1Agreement).toFixed(1)} %`],
    ["KL divergence a token, mean", klMean.toExponential(2)],
    ["KL divergence a token, largest", klMax.toExponential(2)],
    ["K and V read a token", `${(100 * readShare).toFixed(1)} %`],
    ["attention mass read, estimated", estimatedMass === null ? "–" : `${(100 * estimatedMass).toFixed(1)} %`],
  ];
  const table = formatTable([{ title: "dense against retrieval" }, { title: "", align: "right" }], rows);
  return `${table}\n\ndense:\n${texts.dense}\n\nretrieval:\n${texts.retrieval}`;
}
