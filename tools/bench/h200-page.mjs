// Prints docs/benchmarks/h200.md from docs/benchmarks/h200.json:  node tools/bench/h200-page.mjs [--check]
import { fileURLToPath } from "node:url";
import { hotSetPart, hotStepsOf2048 } from "./h200-page-hot-set.mjs";
import { largePart, modelPart } from "./h200-page-runs.mjs";
import { NOT_MEASURED, percent, spread, table, us } from "./h200-table.mjs";
import { MUST_2048_US, TARGETS } from "./h200-targets.mjs";
import { printPage } from "./print-page.mjs";

const STAGES = ["probe", "collide", "select", "rerank", "attend"];

/** The page, from the raw figures alone. */
export function h200Page(result) {
  const { run, machine, checks, notes } = result;
  return `# The cuda backend, measured

This page is printed by \`tools/bench/h200-page.mjs\` from [h200.json](h200.json): ${run.gpu}, commit ${run.commit}, ${run.date}, \`${run.command}\`.
${notes.length > 0 ? `\n${notes.map((note) => `- ${note}`).join("\n")}\n` : ""}
## Correct

${checks.length > 0 ? `${checks.map((line) => `- ${line}`).join("\n")}\n` : NOT_MEASURED}
## One attention layer, one decode step

32 query heads, 8 KV heads, head_dim 128, bf16; every stage and the whole replayed as a CUDA graph. Microseconds: medians${machine ? ` of ${machine.runs} runs` : ""}, with
their tenth and ninetieth percentile. ${machine ? machineText(machine) : ""}

${attentionPart(result)}
${ingestPart(result)}
${hotSetPart(result)}
${hostMemoryPart(result)}
${largePart(result)}
${modelPart(result)}`;
}

function machineText(machine) {
  const gib = (/** @type {number} */ bytes) => (bytes / 2 ** 30).toFixed(0);
  const read = `reads device memory at ${machine.deviceReadGigabytesPerSecond} GB/s`;
  const mapped = machine.mappedReadGigabytesPerSecond
    ? ` and mapped host memory at ${machine.mappedReadGigabytesPerSecond} GB/s`
    : "";
  const summary = machine.summaryBytesAKey
    ? ` A key's summary takes ${machine.summaryBytesAKey.toFixed(1)} bytes by the allocator's count (at most 96 are allowed).`
    : "";
  const launch = machine.emptyTapeUs
    ? ` Times are the host's, of whole graphs of many steps from launch to end; the launch and the wait, ${machine.emptyTapeUs.toFixed(1)} µs a graph, are in them.`
    : "";
  return `The layers take turns over ${gib(machine.poolBytes)} GiB of records in shuffled
pages and no two steps have the same queries, so that caches and address translations are cold. The GPU ${read}${mapped}.${summary}${launch}`;
}

function attentionPart(result) {
  const { cases, sdpa } = result;
  if (cases.length === 0) return NOT_MEASURED;
  const find = (/** @type {object} */ wish) =>
    cases.find((row) => Object.entries(wish).every(([key, value]) => row[key] === value));
  const lengths = [...new Map(cases.map((row) => [`${row.contextTokens}x${row.batch}`, row])).values()].sort(
    (a, b) => a.batch - b.batch || a.contextTokens - b.contextTokens,
  );
  const policies = [...new Set(cases.map((row) => row.policy))].filter((policy) => policy !== "dense");
  const name = (row) => `${row.contextTokens / 1024}K × ${row.batch}`;
  const where = (row) => ({ contextTokens: row.contextTokens, batch: row.batch });
  const torch = (row) =>
    sdpa
      .filter((other) => other.contextTokens === row.contextTokens && other.batch === row.batch && other.medianUs)
      .sort((a, b) => a.medianUs - b.medianUs)[0];
  const dense = (row) => find({ ...where(row), stage: "dense" });

  const whole = lengths.flatMap((row) =>
    ["mapped", "device"].map((records) => {
      const [must, aim] = TARGETS[`${row.contextTokens}x${row.batch}`]?.[records] ?? [];
      const at = (/** @type {string} */ policy) => find({ ...where(row), records, stage: "whole", topK: 100, policy });
      const [first, ...others] = policies.map(at);
      const best = torch(row) ?? dense(row);
      const gain = first && best ? `${(best.medianUs / first.medianUs).toFixed(1)} ×` : "–";
      const floor = first ? floorUs(result, first).toFixed(0) : "–";
      return [name(row), records, spread(first), `${must ?? "–"}`, `${aim ?? "–"}`, floor, gain, ...others.map(us)];
    }),
  );
  const more = lengths.flatMap((row) =>
    ["mapped", "device"].flatMap((records) =>
      policies
        .filter((policy) => find({ ...where(row), records, stage: "whole", topK: 2048, policy }))
        .map((policy) => [
          name(row),
          records,
          policy,
          ...[100, 1024, 2048].map((topK) => us(find({ ...where(row), records, stage: "whole", topK, policy }))),
        ]),
    ),
  );
  const stages = lengths.flatMap((row) =>
    policies.map((policy) => {
      const at = (/** @type {string} */ stage) => find({ ...where(row), records: "device", stage, topK: 100, policy });
      const cell = (/** @type {string} */ stage) => (at(stage) ? us(at(stage)) + floorShare(result, at(stage)) : "–");
      return [name(row), policy, ...STAGES.map(cell), cell("whole")];
    }),
  );
  const bytes = lengths.flatMap((row) =>
    policies.map((policy) => {
      const at = (/** @type {string} */ stage) => find({ ...where(row), records: "device", stage, topK: 100, policy });
      const megabytes = (stage) => {
        const entry = at(stage);
        return entry ? ((entry.leastDeviceBytes + entry.leastRecordBytes) / 1e6).toFixed(2) : "–";
      };
      return [name(row), policy, ...["collide", "rerank", "attend", "whole"].map(megabytes)];
    }),
  );
  return `### Whole steps, from query to attention output, K = 100

"must" and "aim" are the design's, for the paper's budgets (10 % candidates); "floor" is the time of the bytes that a step cannot do
without, at the bandwidths above; "gain" is the fastest dense attention of this run over the first policy. The other policies are medians.

${table(["context", "records", policies[0] ?? "", "must", "aim", "floor", "gain", ...policies.slice(1)], whole, 2)}

### Dense attention

The yardstick: our own, and PyTorch's scaled_dot_product_attention in the same run. "design" is the fastest of several
libraries as the design's authors measured it on an H200.

${table(
  ["context", "ours", "PyTorch, cuDNN", "PyTorch, flash", "GB/s of the fastest", "design"],
  lengths.map((row) => {
    const by = (/** @type {string} */ kernel) =>
      sdpa
        .filter((other) => other.contextTokens === row.contextTokens && other.batch === row.batch)
        .filter((other) => other.kernel === kernel && other.medianUs)
        .sort((a, b) => a.medianUs - b.medianUs)[0];
    const target = TARGETS[`${row.contextTokens}x${row.batch}`]?.dense;
    const rate = torch(row)?.gigabytesPerSecond;
    const cells = [spread(dense(row)), spread(by("cudnn")), spread(by("flash")), `${rate ?? "–"}`, `${target ?? "–"}`];
    return [name(row), ...cells];
  }),
)}

### More keys

Medians. At 128K with records on the host, K = 2048, the design asks for ${MUST_2048_US} µs at most.${hotStepsOf2048(result)}

${table(["context", "records", "policy", "K = 100", "K = 1024", "K = 2048"], more, 3)}

### Stages, records on the device, K = 100

Each stage as a graph of its own. In brackets the share of the bandwidth floor: the time that the bytes which the stage cannot do
without take at the bandwidth above, over its time; the others move next to nothing.

${table(["context", "policy", ...STAGES, "whole"], stages, 2)}

Those bytes, in MB: the ids of the zone, the codes and weights of the candidates, the records of window and fetched keys.

${table(["context", "policy", "collide", "rerank", "attend", "whole"], bytes, 2)}
`;
}

/** Microseconds that the bytes which a case cannot do without take at the bandwidths of the same run. */
function floorUs({ machine }, row) {
  if (!machine || !row) return Number.NaN;
  const { deviceReadGigabytesPerSecond: device, mappedReadGigabytesPerSecond: mapped } = machine;
  return (row.leastDeviceBytes / device + row.leastRecordBytes / (row.records === "mapped" ? mapped : device)) / 1e3;
}

/** " (63 %)": how much of a case's time that is. */
function floorShare(result, row) {
  const floor = floorUs(result, row);
  return floor > 0 ? ` (${percent(floor / row.medianUs)})` : "";
}

function ingestPart({ ingest }) {
  const rows = [
    ["encode", "encode"],
    ["commit", "commit"],
    ["offload to device memory", "offloadToDevice"],
    ["offload to mapped host memory", "offloadToMapped"],
  ];
  const cells = (row) => [spread(row), row.gigakeysPerSecond.toFixed(2), row.gigabytesPerSecond.toFixed(0)];
  return `## Ingest

Pages of 512 tokens of 32 layers and 8 KV heads of 128 enter the retrieval zone. The design asks for 2 G keys/s of \`encode\`.

${
  ingest
    ? `${table(
        ["stage", "µs a page", "G keys/s", "GB/s"],
        rows.map(([title, key]) => [title, ...cells(ingest[key])]),
      )}\n`
    : NOT_MEASURED
}`;
}

/** Whole steps with records in managed memory that stays on the host, and in the driver's page-locked memory. */
function hostMemoryPart({ cases, driverMemory = [] }) {
  const isWhole = (row) => row.stage === "whole" && row.records === "mapped";
  const rows = driverMemory.filter(isWhole).map((row) => {
    const same = ["contextTokens", "batch", "policy", "topK"];
    const managed = cases.find((other) => isWhole(other) && same.every((name) => other[name] === row[name]));
    return [row.contextTokens, row.policy, row.topK, spread(managed), spread(row)].map(String);
  });
  return `## Host memory: managed, or page-locked by the driver

Whole steps with records in mapped host memory: in managed memory that prefers the host, which the device finds by pages of 2 MiB, and
in memory of \`cudaHostAlloc\` (\`PARISKV_HOST_MEMORY=driver\`), which it finds by pages of 4 KiB (docs/decisions/0012).

${rows.length > 0 ? `${table(["context", "policy", "K", "managed µs", "driver's µs"], rows)}\n` : NOT_MEASURED}`;
}

printPage("h200", h200Page, fileURLToPath(import.meta.url));
