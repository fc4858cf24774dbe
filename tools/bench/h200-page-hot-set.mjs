// The part of docs/benchmarks/h200.md about the hot set.
import { NOT_MEASURED, percent, spread, table, us } from "./h200-table.mjs";
import { MUST_2048_US, TARGETS } from "./h200-targets.mjs";

/** The lines of the hot set's own bench, whatever columns they have, and whole steps with it. */
export function hotSetPart(result) {
  const { hotSet } = result;
  const columns = [...new Set(hotSet.flatMap(Object.keys))];
  const cell = (value) => (typeof value === "number" ? `${Number(value.toPrecision(4))}` : `${value ?? "–"}`);
  return `## The hot set

Records that attention fetched stay on the device for the next steps.

${
  hotSet.length > 0
    ? `${table(
        columns,
        hotSet.map((row) => columns.map((column) => cell(row[column]))),
      )}\n`
    : NOT_MEASURED
}${hotStepsPart(result)}`;
}

/** Whole steps whose queries drift, beside those of the same run whose queries are all new. Earlier runs have none. */
function hotStepsPart({ cases, hotSteps = [] }) {
  if (hotSteps.length === 0) return "";
  const rows = hotSteps.map((row) => {
    const [must, aim] = askedUs(row);
    return [
      `${row.contextTokens / 1024}K × ${row.batch}`,
      `${row.topK}`,
      `${row.hotLines}`,
      percent(row.hitRate),
      spread(row),
      us(coldStep(cases, row, "mapped")),
      us(coldStep(cases, row, "device")),
      `${must ?? "–"}`,
      `${aim ?? "–"}`,
    ];
  });
  return `
### Whole steps with a hot set

From query to attention output, ${hotSteps[0].policy}, records in mapped host memory, in microseconds. The queries of a layer drift about
a base that stays, a little or more, so that its steps want many keys again; "hits" is the share of the fetched keys that lay in the hot
set, as the kernels counted it. "All new" and "device" are the medians above, of queries that are all new, with records in mapped memory
and on the device. "must" and "aim" are the design's for records on the host; its aims assume that most keys are wanted again.

${table(["context", "K", "hot lines", "hits", "with the hot set", "all new", "device", "must", "aim"], rows)}
`;
}

/** A sentence for the 128K step of 2,048 keys from the host: without a hot set, and with it. */
export function hotStepsOf2048({ cases, hotSteps = [] }) {
  const [first, ...others] = hotSteps.filter(isOf2048);
  if (!first) return "";
  const steps = [first, ...others].map((row) => `${us(row)} (${percent(row.hitRate)} hits)`);
  return ` In this run a step takes ${us(coldStep(cases, first, "mapped"))} µs with all keys new, and with a hot set ${steps.join(" or ")}.`;
}

const isOf2048 = (row) => row.contextTokens === 131072 && row.batch === 1 && row.topK === 2048;

/** What the design asks for of a step with records on the host: "must" and "aim", where it does. */
function askedUs(row) {
  if (isOf2048(row)) return [MUST_2048_US];
  return (row.topK === 100 && TARGETS[`${row.contextTokens}x${row.batch}`]?.mapped) || [];
}

/** The same step with queries that are all new. */
function coldStep(cases, row, /** @type {string} */ records) {
  const same = ["contextTokens", "batch", "policy", "topK", "stage"];
  return cases.find((other) => other.records === records && same.every((name) => other[name] === row[name]));
}
