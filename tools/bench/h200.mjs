// Makes docs/benchmarks/h200.json and h200.md from what tools/gpu/check.sh left on a machine with a GPU.
//   node tools/bench/h200.mjs --commit ID [--date YYYY-MM-DD] FOLDER...
// Of a part that several folders have, the last folder's counts. The notes in h200.json are written by hand and stay.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { h200Page } from "./h200-page.mjs";

const { values: flags, positionals: folders } = parseArgs({
  allowPositionals: true,
  options: { commit: { type: "string" }, date: { type: "string", default: new Date().toISOString().slice(0, 10) } },
});
if (!flags.commit || folders.length === 0) throw new Error("Expected --commit and at least one folder.");
const target = join(dirname(fileURLToPath(import.meta.url)), "../../docs/benchmarks");

/** The lines of a folder's results by part; a line that was cut short is left out. */
function resultsOf(/** @type {string} */ folder) {
  const parts = new Map();
  for (const line of readFileSync(join(folder, "results.jsonl"), "utf8").split("\n")) {
    try {
      const { part, result, seconds, status } = JSON.parse(line);
      if (!parts.has(part)) parts.set(part, { results: [] });
      if (result === undefined) Object.assign(parts.get(part), { seconds, status });
      else parts.get(part).results.push(result);
    } catch {}
  }
  return parts;
}

const parts = new Map(folders.flatMap((folder) => [...resultsOf(folder)]));
const lines = (/** @type {string} */ part) => parts.get(part)?.results ?? [];
/** The last file of that name, of all folders. */
function read(/** @type {string} */ name) {
  const folder = folders.filter((candidate) => existsSync(join(candidate, name))).at(-1);
  return folder === undefined ? undefined : readFileSync(join(folder, name), "utf8");
}
function lastLine(/** @type {string} */ name, /** @type {RegExp} */ pattern) {
  const found = read(name)
    ?.split("\n")
    .reverse()
    .find((line) => pattern.test(line));
  return found?.replace(/^=+ */, "") ?? "nothing was reported";
}

const checks = [];
const conformance = read("conformance.txt");
if (conformance !== undefined) {
  // Group by group, for a run that was cut short has no last line.
  const sums = [...conformance.matchAll(/^(?:ok|FAIL) .* (\d+) passed(?:, (\d+) failed)?/gm)].reduce(
    ([passed, failed], [, more, wrong = 0]) => [passed + Number(more), failed + Number(wrong)],
    [0, 0],
  );
  const groups = [...conformance.matchAll(/^(?:ok|FAIL) +(.*?) {2,}/gm)].map(([, name]) => name.split(":")[0]);
  checks.push(
    `against the cpu backend, through the C interface (${[...new Set(groups)].join(", ")}): ${sums[0]} passed, ${sums[1]} failed`,
  );
}
for (const tool of ["memcheck", "racecheck", "initcheck", "synccheck"]) {
  if (read(`${tool}.txt`) === undefined) continue;
  checks.push(
    `compute-sanitizer ${tool}, every stage at small and odd sizes: ${lastLine(`${tool}.txt`, /SUMMARY/)}; ${lastLine(`${tool}.txt`, /passed, .* failed/)}`,
  );
}

/** The runs of long-memory.mjs that a part's lines hold. */
function longRuns(/** @type {any[]} */ of) {
  if (of.length === 0) return [];
  const looks = of.filter((line) => line.equal !== undefined);
  return [
    {
      setting: of[0],
      ingest: of.find((line) => line.predictedBytes),
      looks,
      right: of.at(-1).right === true && looks.length > 0,
    },
  ];
}

const [machine, ...steps] = lines("stages");
/** Steps with a hot set have its lines; what is compared with them is without. */
const isCold = (/** @type {{ hotLines?: number }} */ row) => row.hotLines === undefined;
const [sdpaRun, ...sdpa] = lines("sdpa");
const [doctor] = lines("doctor");
const result = {
  run: {
    gpu: machine?.detail ?? sdpaRun?.gpu ?? doctor?.chosen.detail ?? "unknown",
    commit: flags.commit,
    date: flags.date,
    command: "tools/gpu/check.sh OUT",
  },
  notes: JSON.parse(readFileSync(join(target, "h200.json"), "utf8")).notes ?? [],
  parts: Object.fromEntries([...parts].map(([name, { seconds, status }]) => [name, { seconds, status }])),
  checks,
  machine,
  cases: steps.filter(isCold),
  hotSteps: steps.filter((row) => !isCold(row)),
  sdpaRun,
  sdpa,
  ingest: lines("ingest")[0],
  hotSet: lines("hot_set"),
  driverMemory: lines("driver_memory").slice(1).filter(isCold),
  doctor,
  demo: lines("demo").map((run) => ({ ...run, modes: run.modes.map(({ tokenIds, ...mode }) => mode) })),
  listLong: lines("list_long"),
  longMemory: [...longRuns(lines("long_zone")), ...longRuns(lines("long_memory"))],
};
writeFileSync(join(target, "h200.json"), `${JSON.stringify(result, null, 1)}\n`);
writeFileSync(join(target, "h200.md"), h200Page(result));
