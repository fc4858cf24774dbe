// Prints docs/benchmarks/h200.md from docs/benchmarks/h200.json:  node tools/bench/h200-page.mjs [--check]
import { fileURLToPath } from "node:url";
import { printPage } from "./print-page.mjs";

/** Microseconds that the design asks for at K = 100 and the paper's share of candidates: records on the host, on the device. */
const MUST = { 32768: [48, 36], 131072: [60, 45], 524288: [100, 85], 1048576: [150, 130] };
const STAGES = ["probe", "collide", "select", "rerank", "attend"];

/** The page, from the raw figures alone. */
export function h200Page({ run, checks, stages }) {
  const { cases } = stages;
  const find = (/** @type {object} */ wish) =>
    cases.find((row) => Object.entries(wish).every(([key, value]) => row[key] === value));
  const us = (row) => (row ? row.medianUs.toFixed(0) : "–");
  const spread = (row) =>
    row ? `${row.medianUs.toFixed(0)} (${row.leastUs.toFixed(0)}–${row.mostUs.toFixed(0)})` : "–";
  const contexts = [...new Set(cases.map((row) => row.contextTokens))];
  const whole = (contextTokens, records, group, candidateShare, topK) =>
    find({ contextTokens, records, stage: "whole", group, candidateShare, topK });
  return `# The cuda backend, measured

This page is printed by \`tools/bench/h200-page.mjs\` from [h200.json](h200.json): ${run.gpu}, ${stages.multiprocessors} multiprocessors, commit ${run.commit}, ${run.date},
\`${run.command}\`. One attention layer, one decode step: 32 query heads, 8 KV heads, head_dim 128, bf16, batch 1; every stage and the
whole replayed as a CUDA graph; medians with least and most of ${stages.runs} runs in microseconds; layers in turn over ${stages.poolGib} GiB of records.

**This is the first version: correct, not yet fast.** It misses every "must" figure of the design; the choice inside \`rerank\` is
the largest part. It is here so that the next version has something to beat.

## Correct

${checks.map((line) => `- ${line}`).join("\n")}

## Whole steps, from query to attention output, K = 100

| context | records | \`mean\`, 10 % | must | \`max\`, 10 % | \`mean\`, 2 % | \`max\`, 2 % | our dense |
|---:|---|---:|---:|---:|---:|---:|---:|
${contexts
  .flatMap((context) =>
    ["device", "mapped"].map(
      (records, onDevice) =>
        `| ${context} | ${records} | ${spread(whole(context, records, "mean", 0.1, 100))} | ${MUST[context]?.[1 - onDevice] ?? "–"} | ${us(whole(context, records, "max", 0.1, 100))} | ${us(whole(context, records, "mean", 0.02, 100))} | ${us(whole(context, records, "max", 0.02, 100))} | ${us(find({ contextTokens: context, records, stage: "dense" }))} |`,
    ),
  )
  .join("\n")}

## More keys, records in mapped host memory, \`mean\`, 10 %

| context | K = 100 | K = 1024 | K = 2048 |
|---:|---:|---:|---:|
${contexts.map((context) => `| ${context} | ${[100, 1024, 2048].map((topK) => us(whole(context, "mapped", "mean", 0.1, topK))).join(" | ")} |`).join("\n")}

## Stages, records on the device, K = 100

| context | group, share | ${STAGES.join(" | ")} |
|---:|---|${STAGES.map(() => "---:").join("|")}|
${contexts
  .flatMap((context) =>
    [
      ["mean", 0.1],
      ["max", 0.1],
      ["max", 0.02],
    ].map(
      ([group, candidateShare]) =>
        `| ${context} | ${group}, ${candidateShare} | ${STAGES.map((stage) => us(find({ contextTokens: context, records: "device", stage, group, candidateShare, topK: 100 }))).join(" | ")} |`,
    ),
  )
  .join("\n")}
`;
}

printPage("h200", h200Page, fileURLToPath(import.meta.url));
