import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const folder = join(dirname(fileURLToPath(import.meta.url)), "../../docs/benchmarks");

/**
 * The main program of a page: prints docs/benchmarks/<name>.md from <name>.json, or with --check compares them.
 * Does nothing when `script` is imported and not run.
 * @param {string} name
 * @param {(result: any) => string} page
 * @param {string} script
 */
export function printPage(name, page, script) {
  if (process.argv[1] !== script) return;
  const printed = page(JSON.parse(readFileSync(join(folder, `${name}.json`), "utf8")));
  const path = join(folder, `${name}.md`);
  if (!process.argv.includes("--check")) writeFileSync(path, printed);
  else if (readFileSync(path, "utf8") !== printed) {
    process.stderr.write(`docs/benchmarks/${name}.md is not what tools/bench/${name}-page.mjs prints\n`);
    process.exit(1);
  }
}
