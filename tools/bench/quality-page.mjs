// Prints docs/benchmarks/quality.md from docs/benchmarks/quality.json:  node tools/bench/quality-page.mjs [--check]
import { fileURLToPath } from "node:url";
import { printPage } from "./print-page.mjs";

/** The page, from the raw figures alone. */
export function qualityPage(result) {
  const { run, margin, policy, recorded, answers } = result;
  const percent = (/** @type {number} */ share) => `${(100 * share).toFixed(1)} %`;
  const sum = (rows, /** @type {string} */ key) => rows.reduce((total, row) => total + row[key], 0);
  return `# Answers: dense attention and retrieval

This page is printed by \`tools/bench/quality-page.mjs\` from [quality.json](quality.json), which \`${run.command}\` wrote on
${run.processor}, ${run.cores} cores, ${run.backend}, at commit ${run.commit}, ${run.date}.

The bundled model, greedy, K and V in bf16. Retrieval works in all layers: K = ${policy.topK} a KV head, group \`${policy.group}\`, graded votes.
A value is right when it stands at its own place of the answer.

## Dense attention against recorded outputs

20 prompts of 4,096 tokens a task, with the greedy outputs of transformers recorded beside them. Those were computed in bf16
throughout, ours in f32 with K and V in bf16, so that near ties fall differently. The rule: all tokens equal, or the first that
differs is a close call, where our two largest logits differ by less than ${margin} (four steps of bf16 at logits of 16 to 32); anything else is wrong.
${sum(recorded, "equal")} of ${sum(recorded, "prompts")} outputs are equal token by token, ${sum(recorded, "closeCalls")} part at a close call, ${sum(recorded, "wrong")} are wrong.

| task | prompts | equal | close calls | wrong | values | recorded right | dense right | retrieval right | K and V read |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
${recorded
  .map(
    (row) =>
      `| ${row.task} | ${row.prompts} | ${row.equal} | ${row.closeCalls} | ${row.wrong} | ${row.values} | ${row.recordedRight} | ${row.denseRight} | ${row.retrievalRight} | ${percent(row.readShare)} |`,
  )
  .join("\n")}

## Retrieval against dense attention by length

Prompts of our own generator, the same for both.

| task | context | samples | values | dense right | retrieval right | K and V read |
|---|---:|---:|---:|---:|---:|---:|
${answers
  .map(
    (row) =>
      `| ${row.task} | ${row.contextTokens} | ${row.samples} | ${row.values} | ${row.denseRight} | ${row.retrievalRight} | ${percent(row.readShare)} |`,
  )
  .join("\n")}
`;
}

printPage("quality", qualityPage, fileURLToPath(import.meta.url));
