import { createInterface } from "node:readline";
import { InvalidArgumentError } from "@pariskv/quantizer";
import type { CommandIo } from "../cli/command-io.js";
import { EXIT } from "../cli/exit-code.js";
import type { ChatOptions } from "../cli/options.js";
import { type ChatMessage, type ChatTemplate, readChatTemplate } from "../text/chat-template.js";
import { generateAnswer } from "./answer.js";
import { closingBlock } from "./closing-block.js";
import { Conversation } from "./conversation.js";
import { samplerOf } from "./sampling.js";
import { openSession, policyOf, type Session } from "./session.js";

/**
 * Talks with a model: one line in, one answer out (with `--json` one object a line), until the input ends. What was read
 * before is not read again.
 */
export async function runChat(options: ChatOptions, io: CommandIo): Promise<number> {
  const policy = policyOf(options);
  // The conversation, and for a moment the same one forked where a template rewrites its past.
  using session = await openSession({ ...options, policy, sequences: 2, forkTokens: 0 }, io);
  const template = readChatTemplate(session.folder.path);
  if (template.origin === "plain")
    io.writeNotice("this model brings no chat template: turns are written as Question and Answer\n");
  const { sampler } = samplerOf(options, session.folder.generationDefaults);
  const messages: ChatMessage[] = options.system === undefined ? [] : [{ role: "system", content: options.system }];
  const conversation = new Conversation(session);
  io.writeNotice("an empty line is skipped, the end of input (Ctrl-D) ends the conversation\n");
  for await (const line of inputLines(io)) {
    const content = line.trim();
    if (content === "") continue;
    messages.push({ role: "user", content });
    const prefill = await conversation.read(encodeConversation(session, template, messages), io);
    const answer = await generateAnswer(
      session,
      conversation.sequence,
      {
        firstLogits: prefill.logits,
        maxTokens: options.maxTokens ?? session.model.maxTokens,
        choose: (logits) => sampler.choose(logits),
        stop: options.stop,
        onText: options.json ? () => {} : io.writeOutput,
      },
      io,
    );
    conversation.heard(answer.tokenIds);
    messages.push({ role: "assistant", content: answer.text.trim() });
    io.writeOutput(options.json ? `${JSON.stringify(answer)}\n` : "\n");
    io.writeNotice(closingBlock(prefill, answer));
    if (answer.stop === "aborted") return EXIT.interrupted;
  }
  return EXIT.ok;
}

/** The lines of the input, with a prompt before each on a terminal; an interrupt ends them. */
async function* inputLines(io: CommandIo): AsyncGenerator<string> {
  const lines = createInterface({ input: io.input, terminal: false });
  const close = () => lines.close();
  io.signal.addEventListener("abort", close);
  const ask = () => {
    if (io.noticeIsTerminal) io.writeNotice("> ");
  };
  try {
    ask();
    for await (const line of lines) {
      yield line;
      ask();
    }
  } finally {
    io.signal.removeEventListener("abort", close);
    close();
  }
}

function encodeConversation(session: Session, template: ChatTemplate, messages: readonly ChatMessage[]): Uint32Array {
  const { maxTokens } = session.model;
  const text = template.render(messages);
  const ids = session.tokenizer.encodeAtMost(text, maxTokens, { addSpecialTokens: !template.writesSpecialTokens });
  if (ids !== undefined && ids.length <= maxTokens) return ids;
  throw new InvalidArgumentError({
    argument: "the conversation",
    expected: `at most ${maxTokens} tokens long, the context's length`,
    received: ids?.length ?? `a text of ${text.length} characters`,
  });
}
