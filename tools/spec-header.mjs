#!/usr/bin/env node
// One truth for constants: prints the TypeScript ones as a C header, with a fingerprint that both sides carry.
//   node tools/spec-header.mjs           writes the header and the TypeScript file with the fingerprint
//   node tools/spec-header.mjs --check   exits 1 when a committed file is not what would be written
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const SOURCES = ["packages/quantizer/src/spec.ts", "packages/kernels/src/layout.ts"];
const HEADER = "packages/kernels/native/include/pkv_spec.h";
const FINGERPRINT = "packages/kernels/src/spec-fingerprint.ts";
const HEAD_DIMS = [64, 128, 256];

/** Loads a TypeScript module on any Node: esbuild (which tsup brings) bundles it, Node imports the text. */
async function loadTypeScript(/** @type {string} */ path) {
  const require = createRequire(join(root, "package.json"));
  const esbuild = createRequire(require.resolve("tsup"))("esbuild");
  const { outputFiles } = await esbuild.build({
    entryPoints: [path],
    bundle: true,
    write: false,
    format: "esm",
    platform: "neutral",
    target: "node20",
    alias: { "@pariskv/quantizer": join(root, "packages/quantizer/src/index.ts") },
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
}

/** `headPageBytes` -> `HEAD_PAGE_BYTES`; names that are capitals already stay. */
const capitals = (/** @type {string} */ name) => name.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toUpperCase();

/** A C literal that is exact and has no surprise in its type: integers as they are, beyond 31 bits unsigned. */
function literal(/** @type {string} */ name, /** @type {unknown} */ value) {
  if (typeof value !== "number" || !Number.isFinite(value)) {
    throw new TypeError(`Expected ${name} to be a finite number but received ${String(value)}.`);
  }
  if (!Number.isInteger(value)) return value < 0 ? `(${value})` : String(value);
  if (value < -(2 ** 31) || value >= 2 ** 32) {
    throw new RangeError(`Expected ${name} to fit 32 bits but received ${value}.`);
  }
  if (value < 0) return `(${value})`;
  return value < 2 ** 31 ? String(value) : `${value}u`;
}

/** The `#define` lines of one exported constant; nothing for functions and strings. */
function define(/** @type {string} */ name, /** @type {unknown} */ value) {
  const macro = `PKV_${capitals(name)}`;
  if (typeof value === "number") return [`#define ${macro} ${literal(name, value)}`];
  if (typeof value !== "object" || value === null) return [];
  if (Array.isArray(value) || ArrayBuffer.isView(value)) {
    const items = Array.from(/** @type {ArrayLike<unknown>} */ (value), (item, i) => literal(`${name}[${i}]`, item));
    return [`#define ${macro} { ${items.join(", ")} }`, `#define ${macro}_COUNT ${items.length}`];
  }
  return Object.entries(value).map(
    ([key, item]) => `#define ${macro}_${capitals(key)} ${literal(`${name}.${key}`, item)}`,
  );
}

/** FNV-1a, 32 bits, over the UTF-8 bytes of a text. */
export function fnv1a32(/** @type {string} */ text) {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text, "utf8")) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}

/**
 * The header of a list of modules, in the order of their sources.
 *
 * @param {{ path: string, source: string, values: Record<string, unknown> }[]} modules
 * @returns {{ header: string, fingerprint: number }}
 */
export function printHeader(modules) {
  const sections = modules.map(({ path, source, values }) => {
    // A module's own order reads better than the alphabet, and it is stable.
    const names = [...source.matchAll(/^export const (\w+)/gm)].map((match) => /** @type {string} */ (match[1]));
    const lines = names.flatMap((name) => define(name, values[name]));
    const { summaryLayout } = values;
    if (typeof summaryLayout === "function") {
      for (const headDim of HEAD_DIMS) lines.push(...define(`SUMMARY_${headDim}`, summaryLayout(headDim)));
    }
    return [`/* ${path} */`, ...lines, ""].join("\n");
  });
  const body = sections.join("\n");
  const macros = [...body.matchAll(/^#define (\w+)/gm)].map((match) => match[1]);
  const twice = macros.find((macro, i) => macros.indexOf(macro) !== i);
  if (twice) throw new Error(`Expected every constant to have a macro of its own but ${twice} is defined twice.`);
  const fingerprint = fnv1a32(body);
  const header = `/* Printed by tools/spec-header.mjs from the files named below. Change those, never this file. */
#ifndef PKV_SPEC_H
#define PKV_SPEC_H

${body}
/* FNV-1a of the lines above; the addon reports it and the loader compares it with its own. */
#define PKV_SPEC_FINGERPRINT ${hex(fingerprint)}u

#endif
`;
  return { header, fingerprint };
}

const hex = (/** @type {number} */ value) => `0x${value.toString(16).padStart(8, "0")}`;

/** Every file that the constants of the repository print, by its path from the root. */
export async function printFiles() {
  const modules = [];
  for (const path of SOURCES) {
    const source = readFileSync(join(root, path), "utf8");
    modules.push({ path, source, values: await loadTypeScript(join(root, path)) });
  }
  const { header, fingerprint } = printHeader(modules);
  const typescript = `// Printed by tools/spec-header.mjs. Change the constants, never this file.

/** FNV-1a of the constants that TypeScript and native code share; the addon must report the same number. */
export const SPEC_FINGERPRINT = ${hex(fingerprint)};
`;
  return new Map([
    [HEADER, header],
    [FINGERPRINT, typescript],
  ]);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const check = process.argv.includes("--check");
  let stale = 0;
  for (const [path, text] of await printFiles()) {
    const file = join(root, path);
    if (existsSync(file) && readFileSync(file, "utf8") === text) continue;
    stale++;
    if (check) console.error(`${path} is out of date: run \`node ${relative(root, process.argv[1] ?? "")}\`.`);
    else {
      writeFileSync(file, text);
      console.log(`wrote ${path}`);
    }
  }
  if (check && stale === 0) console.log("the C header and the TypeScript constants agree");
  process.exitCode = check && stale > 0 ? 1 : 0;
}
