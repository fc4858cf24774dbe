// Measures the cpu backend and writes docs/benchmarks/cpu.json, then prints docs/benchmarks/cpu.md from it.
//   node tools/bench/cpu.mjs            (after `npm run build`; about ten minutes)
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { benchAttentionLayer, SHAPE } from "./attention-layer.mjs";
import { cpuPage } from "./cpu-page.mjs";
import { describeRun, summarize } from "./machine.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const kernels = await import(join(root, "packages/kernels/dist/index.js"));
const retrieval = await import(join(root, "packages/retrieval/dist/index.js"));
const say = (/** @type {string} */ text) => process.stderr.write(`${text}\n`);

const LENGTHS = [16_384, 32_768, 131_072];
const POLICIES = [
  { name: "dense", policy: { mode: "dense" } },
  { name: "retrieval (default: graded, sum, 5 %)", policy: { mode: "vote" } },
  { name: "graded, max, 5 %", policy: { mode: "vote", group: "max" } },
  { name: "graded, mean, 5 %", policy: { mode: "vote", group: "mean" } },
  { name: "graded, max, 2 %", policy: { mode: "vote", candidateShare: 0.02 } },
  {
    name: "tiered, mean, paper's shares",
    policy: { mode: "vote", votes: "tiered", group: "mean", candidateShare: "paper" },
  },
];

const context = kernels.createContext({ device: "cpu" });
const run = { ...describeRun(), backend: context.detail };
say(`${run.processor}, ${run.cores} cores, ${run.backend}`);

const GIBIBYTE = 2 ** 30;
const yardstick = context.allocate(GIBIBYTE, "mapped");
const bandwidth = () => summarize(Array.from({ length: 9 }, () => GIBIBYTE / yardstick.timeRead()));
const readBandwidth = { before: bandwidth() };
const attention = [];
for (const contextTokens of LENGTHS) {
  say(`attention layer at ${contextTokens} tokens`);
  attention.push(...benchAttentionLayer(retrieval, { context, contextTokens, rounds: 5, policies: POLICIES }));
}
readBandwidth.after = bandwidth();

say("bundled model at 32768 tokens");
const decoder = join(root, "apps/decoder/dist/cli.js");
const model = JSON.parse(
  execFileSync(process.execPath, [decoder, "bench", "--lengths", "8k,32k", "--device", "cpu", "--json"], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  }),
);
const crossover = retrieval.measureCrossover({ context, shape: SHAPE });
const result = { run, shape: SHAPE, readBandwidth, attention, crossover, model };
writeFileSync(join(root, "docs/benchmarks/cpu.json"), `${JSON.stringify(result, null, 1)}\n`);
writeFileSync(join(root, "docs/benchmarks/cpu.md"), cpuPage(result));
context.dispose();
say("wrote docs/benchmarks/cpu.json and cpu.md");
