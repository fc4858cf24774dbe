import { createInterface } from "node:readline";
import type { Sequence } from "@pariskv/retrieval";
import type { CommandIo } from "../cli/command-io.js";
import { EXIT } from "../cli/exit-code.js";
import type { ChatOptions } from "../cli/options.js";
import { type ChatMessage, type ChatTemplate, readChatTemplate } from "../text/chat-template.js";
import { generateAnswer, prefillWithProgress } from "./answer.js";
import { closingLine } from "./run.js";
import { samplerOf } from "./sampling.js";
import { openSession, policyOf, type Session } from "./session.js";

/** Talks with a model: one line in, one answer out, until the input ends. What was read before is not read again. */
export async function runChat(options: ChatOptions, io: CommandIo): Promise<number> {
  using session = openSession(
    {
      model: options.model,
      device: options.device,
      kvDtype: options.kvDtype as "auto",
      ctxSize: options.ctxSize,
      policy: policyOf(options),
      sequences: 2, // the conversation, and the same one forked where a template rewrites its past
      sharedPrefix: true,
    },
    io,
  );
  const template = readChatTemplate(session.folder.path);
  if (template.origin === "plain")
    io.writeNotice("this model brings no chat template: turns are written as Question and Answer\n");
  const { sampler } = samplerOf(options, session.folder.generationDefaults);
  const messages: ChatMessage[] = options.system === undefined ? [] : [{ role: "system", content: options.system }];
  const conversation = new Conversation(session);
  const lines = createInterface({ input: io.input, terminal: false });
  const ask = () => io.writeNotice("> ");
  io.writeNotice("an empty line is skipped, the end of input (Ctrl-D) ends the conversation\n");
  ask();
  for await (const line of lines) {
    if (line.trim() !== "") {
      messages.push({ role: "user", content: line.trim() });
      const promptIds = encodeConversation(session, template, messages);
      const prefill = await conversation.read(promptIds, io);
      const answer = await generateAnswer(
        session,
        conversation.sequence,
        {
          firstLogits: prefill.logits,
          maxTokens: options.maxTokens ?? session.model.retriever.memory.maxTokens,
          choose: (logits) => sampler.choose(logits),
          stop: options.stop,
          onText: options.json ? () => {} : io.writeOutput,
        },
        io,
      );
      conversation.heard(answer.tokenIds);
      messages.push({ role: "assistant", content: answer.text.trim() });
      io.writeOutput(options.json ? `${JSON.stringify(answer)}\n` : "\n");
      io.writeNotice(closingLine(prefill.tokens, prefill.tokensPerSecond, answer));
      if (answer.stop === "aborted") return EXIT.interrupted;
    }
    ask();
  }
  return EXIT.ok;
}

function encodeConversation(session: Session, template: ChatTemplate, messages: readonly ChatMessage[]): Uint32Array {
  return session.tokenizer.encode(template.render(messages), { addSpecialTokens: !template.writesSpecialTokens });
}

/** The tokens that the model has read, so that each turn reads only what is new. */
class Conversation {
  readonly #session: Session;
  #sequence: Sequence;
  #tokenIds: number[] = [];

  constructor(session: Session) {
    this.#session = session;
    this.#sequence = session.model.createSequence();
  }

  get sequence(): Sequence {
    return this.#sequence;
  }

  /** Brings the sequence to `tokenIds`: keeps the common beginning and reads the rest, at least the last token. */
  async read(tokenIds: Uint32Array, io: CommandIo) {
    let common = 0;
    const most = Math.min(this.#tokenIds.length, this.#sequence.tokens, tokenIds.length - 1);
    while (common < most && this.#tokenIds[common] === tokenIds[common]) common++;
    if (common < this.#sequence.tokens) {
      const shorter = this.#sequence.fork(common);
      this.#sequence.dispose();
      this.#sequence = shorter;
    }
    const rest = tokenIds.subarray(common);
    const prefill = await prefillWithProgress(this.#session, this.#sequence, rest, io);
    this.#tokenIds = Array.from(tokenIds);
    return { ...prefill, tokens: rest.length };
  }

  /** Remembers the answer, of which the sequence holds all but perhaps the last token. */
  heard(tokenIds: readonly number[]): void {
    this.#tokenIds.push(...tokenIds);
  }
}
