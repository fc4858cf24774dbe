// What the parts of docs/benchmarks/h200.md are written with.

/** What stands in the place of a part that a run did not have. */
export const NOT_MEASURED = "not measured in this run\n";

/** A table of Markdown; the first columns are texts, the others numbers. */
export function table(/** @type {string[]} */ titles, /** @type {string[][]} */ rows, texts = 1) {
  const align = titles.map((_, index) => (index < texts ? "---" : "---:"));
  return [titles, align, ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** The median of a case in microseconds, and with it its tenth and ninetieth percentile. */
export const us = (row) => (row ? row.medianUs.toFixed(row.medianUs < 10 ? 1 : 0) : "–");
export const spread = (row) => (row ? `${us(row)} (${row.lowUs.toFixed(1)}–${row.highUs.toFixed(1)})` : "–");
export const percent = (/** @type {number} */ share) => `${(100 * share).toFixed(0)} %`;
