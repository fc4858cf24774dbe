// What a figure needs beside it: the machine, the commit and the command.
import { execFileSync } from "node:child_process";
import { availableParallelism, cpus, release, totalmem } from "node:os";

/** The machine and the commit that a bench ran on. */
export function describeRun() {
  // A machine with a GPU may have the files without their history: then the variable says what they are.
  const known = process.env.PARISKV_COMMIT;
  const git = (/** @type {string[]} */ ...words) => execFileSync("git", words, { encoding: "utf8" }).trim();
  const dirty = () => git("status", "--porcelain", "--", "packages", "apps", "tools") !== "";
  return {
    processor: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${process.platform} ${release()}`,
    node: process.version,
    commit: known ?? git("rev-parse", "--short=12", "HEAD") + (dirty() ? " with local changes" : ""),
    command: [
      "node",
      ...process.argv.slice(1).map((word) => word.replace(`${process.cwd()}/`, "").replace(/^\/.*\//, "")),
    ].join(" "),
    date: new Date().toISOString().slice(0, 10),
  };
}

/** Median and the tenth and ninetieth percentile of some samples. */
export function summarize(/** @type {number[]} */ samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (/** @type {number} */ share) => sorted[Math.round(share * (sorted.length - 1))] ?? Number.NaN;
  return { median: at(0.5), low: at(0.1), high: at(0.9), samples: sorted.length };
}
