import type { CommandIo } from "../cli/command-io.js";
import { EXIT } from "../cli/exit-code.js";
import type { RunOptions } from "../cli/options.js";
import { readPrompt } from "../cli/prompt-text.js";
import { generateAnswer, prefillWithProgress } from "./answer.js";
import { samplerOf } from "./sampling.js";
import { openSession, policyOf } from "./session.js";

/** Answers one prompt: stdout is the answer and nothing else, or one JSON object. */
export async function runRun(options: RunOptions, io: CommandIo): Promise<number> {
  const prompt = await readPrompt(options, io);
  let promptIds: Uint32Array = new Uint32Array();
  using session = openSession(
    {
      model: options.model,
      device: options.device,
      kvDtype: options.kvDtype as "auto",
      ctxSize: options.ctxSize,
      policy: policyOf(options),
      neededTokens: (tokenizer) => {
        promptIds = tokenizer.encode(prompt);
        return promptIds.length;
      },
    },
    io,
  );
  const { model, folder } = session;
  const { sampler, seed } = samplerOf(options, folder.generationDefaults);
  const sequence = model.createSequence();
  const prefill = await prefillWithProgress(session, sequence, promptIds, io);
  const answer = await generateAnswer(
    session,
    sequence,
    {
      firstLogits: prefill.logits,
      maxTokens: options.maxTokens ?? model.retriever.memory.maxTokens,
      choose: (logits) => sampler.choose(logits),
      stop: options.stop,
      onText: options.json ? () => {} : io.writeOutput,
    },
    io,
  );
  if (options.json) {
    const machine = { device: session.context.device, detail: session.context.detail };
    const promptReport = { tokens: promptIds.length, tokensPerSecond: prefill.tokensPerSecond };
    io.writeOutput(`${JSON.stringify({ ...machine, seed, prompt: promptReport, ...answer })}\n`);
  } else {
    io.writeOutput("\n");
    io.writeNotice(closingLine(promptIds.length, prefill.tokensPerSecond, answer));
  }
  return answer.stop === "aborted" ? EXIT.interrupted : EXIT.ok;
}

/** What an answer cost, in one line. */
export function closingLine(
  promptTokens: number,
  promptTokensPerSecond: number,
  answer: {
    readonly tokenIds: readonly number[];
    readonly tokensPerSecond: number;
    readonly readShare: number;
    readonly stop: string;
  },
): string {
  const decoded = `${answer.tokenIds.length} tokens at ${answer.tokensPerSecond.toFixed(1)} tokens/s`;
  const prompt = `prompt ${promptTokens} tokens at ${promptTokensPerSecond.toFixed(0)} tokens/s`;
  const share = answer.readShare > 0 ? `, ${(100 * answer.readShare).toFixed(1)} % of K and V read a token` : "";
  return `${prompt}; answer ${decoded}${share}; ended by ${answer.stop}\n`;
}
