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
  let promptIds: Uint32Array = new Uint32Array();
  using session = openSession(
    {
      model: options.model,
      device: options.device,
      kvDtype: options.kvDtype as "auto",
      ctxSize: options.ctxSize,
      policy: { ...policyOf(options), mode: "vote" },
      neededTokens: (tokenizer) => {
        promptIds = tokenizer.encode(prompt);
        return promptIds.length;
      },
      sequences: 3,
      sharedPrefix: true,
    },
    io,
  );
  const { model, tokenizer, folder } = session;
  const sequence = model.createSequence();
  const { logits } = await prefillWithProgress(session, sequence, promptIds, io);
  const room = model.retriever.memory.maxTokens - sequence.tokens;
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
  const { firstDivergence, klMean, klMax, top1Agreement, denseTokenIds, readShare } = comparison;
  const rows = [
    ["tokens decoded", String(denseTokenIds.length)],
    ["first divergence", firstDivergence === null ? "none" : `token ${firstDivergence + 1}`],
    ["same most likely token", `${(100 * top1Agreement).toFixed(1)} %`],
    ["KL divergence a token, mean", klMean.toExponential(2)],
    ["KL divergence a token, largest", klMax.toExponential(2)],
    ["K and V read a token", `${(100 * readShare).toFixed(1)} %`],
  ];
  const table = formatTable([{ title: "dense against retrieval" }, { title: "", align: "right" }], rows);
  return `${table}\n\ndense:\n${texts.dense}\n\nretrieval:\n${texts.retrieval}`;
}
