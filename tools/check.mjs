#!/usr/bin/env node
// Every check that is not a test, one line each; the log of a check only when it fails. Run it with `npm run check`,
// which builds first: the packed packages are checked, too, as a user would get them.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { PACKAGES } from "./check-layers.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const node = process.execPath;
const bin = (/** @type {string} */ name) => join(root, "node_modules", ".bin", name);
const packed = mkdtempSync(join(tmpdir(), "pariskv-packed-"));
let [passed, failed] = [0, 0];

/** Runs one command as a check; what it says is shown only when it fails. */
function check(/** @type {string} */ name, /** @type {string[]} */ [command = "", ...args], cwd = root) {
  const start = Date.now();
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: "utf8", maxBuffer: 2 ** 26 });
  const seconds = ((Date.now() - start) / 1000).toFixed(1);
  if (status === 0) passed++;
  else failed++;
  console.log(`${status === 0 ? "ok    " : "FAILED"} ${name} (${seconds} s)`);
  if (status !== 0) console.log(`${stdout ?? ""}${stderr ?? ""}${error?.message ?? ""}`.trimEnd());
  return status === 0;
}

/** The test program of the C interface, which needs no Node, under the address and undefined-behaviour sanitizers. */
function checkNative() {
  const found = (/** @type {string} */ tool) => spawnSync(tool, ["--version"], { stdio: "ignore" }).status === 0;
  if (!found("cmake") || !found("c++")) {
    console.log("passed over: C interface under sanitizers (it needs cmake and a C++ compiler)");
    return;
  }
  const build = join(root, "packages/kernels/build/sanitized");
  const options = ["-DPARISKV_CUDA=OFF", "-DPARISKV_TESTS=ON", "-DPARISKV_SANITIZE=address,undefined"];
  if (!check("configure the native tests", ["cmake", "-S", "packages/kernels", "-B", build, ...options])) return;
  if (!check("build the native tests", ["cmake", "--build", build, "--parallel", "2", "--target", "pkv_test"])) return;
  check("C interface under sanitizers", [join(build, "pkv_test")]);
}

check("lint and format", [bin("biome"), "ci", "--error-on-warnings", "--colors=off"]);
for (const folder of [...PACKAGES.map((layer) => layer.folder), "tools"])
  check(`types of ${folder}`, [node, join(root, "node_modules/typescript-7/bin/tsc"), "--noEmit", "-p", folder]);
check("layers", [node, join(root, "tools/check-layers.mjs")]);
check("constants in TypeScript and C", [node, join(root, "tools/spec-header.mjs"), "--check"]);
check("links in the documentation", [node, join(root, "tools/check-links.mjs")]);
for (const page of ["cpu", "h200", "quality"]) {
  check(`benchmark page ${page}`, [node, join(root, `tools/bench/${page}-page.mjs`), "--check"]);
}
checkNative();
check("unused files and dependencies", [
  bin("knip"),
  "--no-config-hints",
  "--include",
  "files,dependencies,unlisted,unresolved,binaries",
]);
for (const { folder, name } of PACKAGES) {
  const target = join(packed, folder.replaceAll("/", "-"));
  const packs = check(`pack ${name}`, ["pnpm", "pack", "--pack-destination", target], join(root, folder));
  const tarball = packs && readdirSync(target).find((file) => file.endsWith(".tgz"));
  if (!tarball) continue;
  check(`publint of ${name}`, [bin("publint"), "run", join(target, tarball), "--strict"]);
  check(`exported types of ${name}`, [bin("attw"), join(target, tarball), "--profile", "esm-only"]);
}
rmSync(packed, { recursive: true, force: true });
console.log(`${passed} checks passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
