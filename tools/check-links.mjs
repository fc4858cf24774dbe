#!/usr/bin/env node
// Every relative link and anchor in the Markdown files of the repository leads somewhere.
//   node tools/check-links.mjs [root]     prints each dead link and exits 1 when there is one
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const SKIPPED = new Set(["node_modules", "dist", "build", "api", ".git", ".setup", ".turbo"]);

/** Every Markdown file under a folder. */
function markdownUnder(/** @type {string} */ folder) {
  /** @type {string[]} */
  const found = [];
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && !SKIPPED.has(entry.name)) found.push(...markdownUnder(path));
    else if (entry.isFile() && entry.name.endsWith(".md")) found.push(path);
  }
  return found.sort();
}

/** The anchors of a page's headings: small letters, hyphens for spaces, nothing else. */
function anchorsOf(/** @type {string} */ text) {
  return new Set(
    [...text.matchAll(/^#{1,6}\s+(.+)$/gm)].map(([, heading = ""]) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, "")
        .trim()
        .replace(/\s/g, "-"),
    ),
  );
}

/** Every dead link under a root, one sentence each. */
export function checkLinks(/** @type {string} */ root) {
  const dead = [];
  for (const file of markdownUnder(root)) {
    const text = readFileSync(file, "utf8");
    const prose = text.replace(/^(```|~~~)[\s\S]*?^\1/gm, ""); // a link in a block of code is an example
    for (const [, link = ""] of prose.matchAll(/\]\(([^()\s]+)\)/g)) {
      if (/^[a-z]+:/i.test(link)) continue;
      const [path = "", anchor] = link.split("#");
      const target = path === "" ? file : resolve(dirname(file), path);
      const here = relative(root, file);
      if (!existsSync(target)) dead.push(`${here}: the link ${link} leads nowhere`);
      else if (anchor && target.endsWith(".md") && !anchorsOf(readFileSync(target, "utf8")).has(anchor))
        dead.push(`${here}: the link ${link} names a heading that is not there`);
    }
  }
  return dead;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const dead = checkLinks(resolve(process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), "..")));
  for (const sentence of dead) console.error(sentence);
  if (dead.length === 0) console.log("every link leads somewhere");
  process.exitCode = dead.length ? 1 : 0;
}
