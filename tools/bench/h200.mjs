// Makes docs/benchmarks/h200.json and h200.md from what tools/gpu/check.sh left on a machine with a GPU.
//   node tools/bench/h200.mjs FOLDER COMMIT
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { h200Page } from "./h200-page.mjs";

const [folder, commit] = process.argv.slice(2);
if (!folder || !commit) throw new Error("Expected a folder and a commit.");
const read = (/** @type {string} */ name) => readFileSync(join(folder, name), "utf8");
const last = (/** @type {string} */ name, /** @type {RegExp} */ pattern) =>
  read(name)
    .split("\n")
    .reverse()
    .find((line) => pattern.test(line))
    ?.replace(/^=+ */, "") ?? "nothing was reported";

const conformance = read("conformance.txt");
const stages = JSON.parse(read("stages.json"));
const checks = [
  `against the cpu backend, through the C interface, over every operator, whole steps and tapes: ${last("conformance.txt", /passed, .* failed/)}`,
  ...["memcheck", "racecheck", "initcheck", "synccheck"].map(
    (tool) => `compute-sanitizer ${tool}, every stage at small and odd sizes: ${last(`${tool}.txt`, /SUMMARY/)}`,
  ),
  ...[...conformance.matchAll(/memory of kind (\d) is read at (\d+) GB\/s/g)].map(
    ([, kind, rate]) => `${["device", "pinned", "mapped"][Number(kind)]} memory is read at ${rate} GB/s`,
  ),
];
const run = {
  gpu: stages.gpu,
  commit,
  date: new Date().toISOString().slice(0, 10),
  command: "tools/gpu/check.sh OUT",
};
const result = { run, checks, stages };
const target = join(dirname(fileURLToPath(import.meta.url)), "../../docs/benchmarks");
writeFileSync(join(target, "h200.json"), `${JSON.stringify(result, null, 1)}\n`);
writeFileSync(join(target, "h200.md"), h200Page(result));
