import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { ModelFileError, UnsupportedError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { bundledModelPath } from "../../src/model-files/bundled-model.js";
import { type ChatMessage, readChatTemplate } from "../../src/text/chat-template.js";
import { temporaryFolder, write } from "../model-files/temporary-folder.js";

const folder = temporaryFolder();
const MESSAGES: readonly ChatMessage[] = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "Who?" },
  { role: "assistant", content: "Me." },
  { role: "user", content: "Where?" },
];
const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
let folders = 0;

function template(files: Readonly<Record<string, string | object>>) {
  folders += 1;
  const path = join(folder, `${folders}`);
  mkdirSync(path);
  for (const [name, content] of Object.entries(files)) write(path, name, content);
  return readChatTemplate(path);
}

describe("readChatTemplate", () => {
  it("renders the template of tokenizer_config.json up to where the answer begins", () => {
    const chat = template({ "tokenizer_config.json": { chat_template: CHATML } });
    expect(chat).toMatchObject({ origin: "model", writesSpecialTokens: true });
    expect(chat.render(MESSAGES.slice(0, 2))).toBe(
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n",
    );
  });

  it("prefers chat_template.jinja and takes the default of several", () => {
    const config = {
      chat_template: [
        { name: "tool_use", template: "tools" },
        { name: "default", template: "default" },
      ],
    };
    expect(template({ "tokenizer_config.json": config }).render(MESSAGES)).toBe("default");
    expect(template({ "tokenizer_config.json": config, "chat_template.jinja": "file" }).render(MESSAGES)).toBe("file");
  });

  it("gives special tokens as texts, written either way", () => {
    const config = {
      bos_token: "<s>",
      eos_token: { content: "</s>", lstrip: false },
      chat_template: "{{ bos_token }}x{{ eos_token }}",
    };
    expect(template({ "tokenizer_config.json": config }).render(MESSAGES)).toBe("<s>x</s>");
  });

  it("stands in with questions and answers for a model without a template", () => {
    const chat = readChatTemplate(bundledModelPath());
    expect(chat).toMatchObject({ origin: "plain", writesSpecialTokens: false });
    expect(chat.render(MESSAGES)).toBe("Be brief. Question: Who? Answer: Me. Question: Where? Answer:");
    expect(template({}).origin).toBe("plain");
  });

  it.each<[string, unknown]>([
    ["a number", 7],
    ["an object", {}],
    ["a list without default", [{ name: "other", template: "x" }]],
    ["a list of nulls", [null]],
    ["text above 256 KiB", "x".repeat(262_145)],
    ["an unclosed tag", "{% for"],
    ["an unknown tag", "{% explode %}"],
  ])("refuses %s for a template", (_, chat_template) => {
    expect(() => template({ "tokenizer_config.json": { chat_template } })).toThrow(ModelFileError);
  });

  it.each([
    ["refuses the conversation", "{{ raise_exception('roles must alternate') }}", "roles must alternate"],
    [
      "doubles a text for ever",
      "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
      "Invalid string length",
    ],
    ["reaches for a prototype", "{{ messages.constructor.constructor('return 1')() }}", "a failure"],
    ["calls what it does not have", "{{ process.exit(7) }}", "a failure"],
    ["calls itself for ever", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "a failure"],
  ])("a template that %s fails in one sentence", (_, chat_template, says) => {
    const chat = template({ "tokenizer_config.json": { chat_template } });
    expect(() => chat.render(MESSAGES)).toThrow(ModelFileError);
    expect(() => chat.render(MESSAGES)).toThrow(says);
  });

  it("stops a template that takes longer than a second", () => {
    const loops = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}";
    const chat = template({ "chat_template.jinja": loops });
    expect(() => chat.render(MESSAGES)).toThrow(UnsupportedError);
  });
});
