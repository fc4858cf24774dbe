// Prints docs/benchmarks/cpu.md from docs/benchmarks/cpu.json:  node tools/bench/cpu-page.mjs [--check]
import { fileURLToPath } from "node:url";
import { printPage } from "./print-page.mjs";

/** The page, from the raw figures alone. */
export function cpuPage(result) {
  const { run, shape, readBandwidth, attention, crossover, model } = result;
  const GB = 1e9;
  const bandwidth = Math.max(readBandwidth.before.median, readBandwidth.after.median);
  const denseAt = (/** @type {number} */ tokens) =>
    attention.find((row) => row.contextTokens === tokens && row.policy === "dense").stepUs.median;
  const totalBytes = (row) => row.bytes.ids + row.bytes.codesAndWeights + row.bytes.records;
  const rate = (row) => totalBytes(row) / (row.stepUs.median * 1e-6);
  const ms = (/** @type {number} */ us) => (us / 1000).toFixed(3);
  const spread = (time) => `${ms(time.median)} (${ms(time.low)}–${ms(time.high)})`;
  const stage = (row, /** @type {string} */ verb) => (row.stageUs[verb] === undefined ? "–" : ms(row.stageUs[verb]));
  return `# The cpu backend, measured

This page is printed by \`tools/bench/cpu-page.mjs\` from [cpu.json](cpu.json), which \`${run.command}\` wrote.

| machine | |
|---|---|
| processor | ${run.processor}, ${run.cores} cores, ${run.memoryGiB} GiB |
| system | ${run.system}, Node ${run.node} |
| backend | ${run.backend} |
| commit | ${run.commit}, ${run.date} |
| memory read bandwidth, all threads, 1 GiB, in the same run | before ${(readBandwidth.before.median / GB).toFixed(1)} GB/s (${(readBandwidth.before.low / GB).toFixed(1)}–${(readBandwidth.before.high / GB).toFixed(1)}), after ${(readBandwidth.after.median / GB).toFixed(1)} GB/s (${(readBandwidth.after.low / GB).toFixed(1)}–${(readBandwidth.after.high / GB).toFixed(1)}) |

## Decode attention of one layer

${shape.queryHeads} query heads, ${shape.kvHeads} KV heads, head_dim ${shape.headDim}, bf16 K and V, batch 1, K = 100, random keys; every step reads another layer, over at least
1.5 GB of K and V in turn, so that nothing comes from the processor's caches. Medians with the tenth and ninetieth percentile, in
milliseconds. "Of bandwidth" is bytes read over time, as a share of the larger of the two bandwidths above. The competitor is our own dense attention.

| context | attention | step | against dense | MB read | of bandwidth |
|---:|---|---:|---:|---:|---:|
${attention
  .map(
    (row) =>
      `| ${row.contextTokens} | ${row.policy} | ${spread(row.stepUs)} | ${(denseAt(row.contextTokens) / row.stepUs.median).toFixed(1)} × | ${(totalBytes(row) / 1e6).toFixed(1)} | ${((100 * rate(row)) / bandwidth).toFixed(0)} % |`,
  )
  .join("\n")}

## Stages

Mean milliseconds of each stage in the same steps, and the bytes behind them. Records are K and V; candidates and fetched keys are sums over the KV heads.

| context | attention | probe | collide | select | rerank | attend | MB of ids | MB of codes | MB of records | candidates | fetched |
|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
${attention
  .map(
    (row) =>
      `| ${row.contextTokens} | ${row.policy} | ${["probe", "collide", "select", "rerank", "attend"].map((verb) => stage(row, verb)).join(" | ")} | ${(row.bytes.ids / 1e6).toFixed(2)} | ${(row.bytes.codesAndWeights / 1e6).toFixed(2)} | ${(row.bytes.records / 1e6).toFixed(2)} | ${row.bytes.candidates} | ${row.bytes.selected} |`,
  )
  .join("\n")}

## Where retrieval begins to be faster

The same layer, warm, through arrays: the crossover that the ladder's default follows.

| context | zone | dense µs | retrieval µs |
|---:|---:|---:|---:|
${crossover.points.map((point) => `| ${point.contextTokens} | ${point.zoneTokens} | ${point.denseUs.toFixed(0)} | ${point.voteUs.toFixed(0)} |`).join("\n")}

## The bundled model

The whole decoder (6 layers, 4 query heads, 2 KV heads, head_dim 128), batch 1, over real text; \`pariskv bench\`, ${model.steps.timed} steps a row.

| context | attention | ms a token | tokens/s | K and V read | prefill tokens/s |
|---:|---|---:|---:|---:|---:|
${model.rows
  .map(
    (row) =>
      `| ${row.contextTokens} | ${row.mode} | ${row.medianMs.toFixed(2)} (${row.spreadMs.map((value) => value.toFixed(2)).join("–")}) | ${row.tokensPerSecond.toFixed(1)} | ${(100 * row.readShare).toFixed(1)} % | ${row.prefillTokensPerSecond.toFixed(0)} |`,
  )
  .join("\n")}
`;
}

printPage("cpu", cpuPage, fileURLToPath(import.meta.url));
