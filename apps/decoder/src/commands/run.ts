import type { CommandIo } from "../cli/command-io.js";
import { EXIT } from "../cli/exit-code.js";
import type { RunOptions } from "../cli/options.js";
import { readPrompt } from "../cli/prompt-text.js";
import { generateAnswer, prefillWithProgress } from "./answer.js";
import { closingBlock } from "./closing-block.js";
import { samplerOf } from "./sampling.js";
import { openSession, policyOf } from "./session.js";

/** Answers one prompt: stdout is the answer and nothing else, or one JSON object. */
export async function runRun(options: RunOptions, io: CommandIo): Promise<number> {
  const prompt = await readPrompt(options, io);
  using session = await openSession({ ...options, prompt, policy: policyOf(options) }, io);
  const { model, folder, context, promptIds } = session;
  const { sampler, seed } = samplerOf(options, folder.generationDefaults);
  const sequence = model.createSequence();
  const prefill = await prefillWithProgress(session, sequence, promptIds, io);
  const answer = await generateAnswer(
    session,
    sequence,
    {
      firstLogits: prefill.logits,
      maxTokens: options.maxTokens ?? model.maxTokens,
      choose: (logits) => sampler.choose(logits),
      stop: options.stop,
      onText: options.json ? () => {} : io.writeOutput,
    },
    io,
  );
  const { tokens, tokensPerSecond } = prefill;
  if (options.json) {
    const { device, detail } = context;
    io.writeOutput(`${JSON.stringify({ device, detail, seed, prompt: { tokens, tokensPerSecond }, ...answer })}\n`);
  } else {
    io.writeOutput("\n");
  }
  io.writeNotice(closingBlock(prefill, answer));
  return answer.stop === "aborted" ? EXIT.interrupted : EXIT.ok;
}
