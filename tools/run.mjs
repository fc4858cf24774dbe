#!/usr/bin/env node
// The whole set-up in one file without dependencies: `npm run demo`, `npm test` and their like start here on a fresh
// clone. It needs Node and npm only; a compiler and CMake are used when found, and one line says so when not.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const pinned = manifest.packageManager.replace(/\+.*/, ""); // "pnpm@10.34.9", without its hash
const pinnedMajor = pinned.split("@")[1].split(".")[0];
const [job = "nothing", ...rest] = process.argv.slice(2);

// Notes go to stderr: stdout belongs to the job, so that `npm run --silent demo -- --json` stays one object.
const say = (/** @type {string} */ text) => process.stderr.write(`[setup] ${text}\n`);
/** @returns {never} */
const stop = (/** @type {string} */ text, status = 1) => {
  say(text);
  process.exit(status);
};
const secondsSince = (/** @type {number} */ start) => `${((Date.now() - start) / 1000).toFixed(0)} s`;

const script = (/** @type {string} */ path) => [process.execPath, join(root, path)];
/** What each job runs once everything is built; `build` runs nothing more, `check` runs inside pnpm because it packs. */
const JOBS = new Map([
  ["demo", [...script("apps/decoder/dist/cli.js"), "demo"]],
  ["test", [...script("node_modules/vitest/vitest.mjs"), "run"]],
  ["build", []],
  ["check", ["pnpm", "exec", process.execPath, join(root, "tools/check.mjs")]],
  ["bench", script("tools/bench/cpu.mjs")],
  ["docs", [...script("node_modules/typedoc/bin/typedoc"), "--logLevel", "Warn"]],
]);

/** The path of every child: the Node that runs this is the `node` they find, and nothing else becomes visible. */
function childPath() {
  const path = process.env.PATH ?? "";
  const found = path.split(delimiter).map((folder) => join(folder, "node"));
  const first = found.find((file) => existsSync(file));
  if (first && realpathSync(first) === realpathSync(process.execPath)) return path;
  const folder = join(root, ".setup", "bin");
  mkdirSync(folder, { recursive: true });
  rmSync(join(folder, "node"), { force: true });
  symlinkSync(process.execPath, join(folder, "node"));
  return folder + delimiter + path;
}

/** The environment of every child: the same Node, no telemetry, and a home that can be written. */
function childEnvironment() {
  /** @type {NodeJS.ProcessEnv} */
  const env = { ...process.env, PATH: childPath(), TURBO_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1" };
  try {
    accessSync(homedir(), constants.W_OK);
  } catch {
    // Package managers keep caches in the home folder. The user's own settings are still read from there.
    const settings = join(homedir(), ".npmrc");
    env.HOME = join(root, ".setup", "home");
    mkdirSync(env.HOME, { recursive: true });
    env.npm_config_cache = join(env.HOME, ".npm"); // npm hands its children the old one
    for (const name of ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"]) delete env[name];
    if (existsSync(settings)) env.npm_config_userconfig ??= settings;
    say(`the home folder ${homedir()} cannot be written: caches go to .setup/home`);
  }
  return env;
}

/** pnpm's command line: the one on the path when its major is the pinned one, else the pinned one through npm. */
function findPnpm(/** @type {NodeJS.ProcessEnv} */ env) {
  const version = (/** @type {string} */ command) => {
    const { status, stdout } = spawnSync(command, ["--version"], { cwd: root, env, encoding: "utf8" });
    return status === 0 ? stdout.trim() : "";
  };
  if (version("pnpm").split(".")[0] === pinnedMajor) return ["pnpm"];
  const npmScript = process.env.npm_execpath?.endsWith("npm-cli.js") ? process.env.npm_execpath : undefined;
  if (!npmScript && !version("npm"))
    stop(`neither pnpm ${pinnedMajor} nor npm was found: install npm, which Node from nodejs.org brings along`);
  // --yes: npm would refuse to fetch a package without a terminal to ask on.
  const npm = npmScript ? [process.execPath, npmScript] : ["npm"];
  return [...npm, "exec", "--yes", `--package=${pinned}`, "--", "pnpm"];
}

/** A fingerprint of everything that decides what an install does. */
function installStamp() {
  const hash = createHash("sha256").update([process.versions.modules, process.platform, process.arch].join(" "));
  const folders = ["packages", "apps", "packages/kernels/npm"].flatMap((group) =>
    readdirSync(join(root, group)).map((name) => join(group, name)),
  );
  const files = [
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    ...["", ...folders].map((name) => join(name, "package.json")),
  ];
  for (const file of files) if (existsSync(join(root, file))) hash.update(readFileSync(join(root, file)));
  return hash.digest("hex");
}

/** Installs the dependencies unless the last good install still stands. */
function install(/** @type {string[]} */ pnpm, /** @type {NodeJS.ProcessEnv} */ env) {
  const stampFile = join(root, "node_modules", ".setup-stamp");
  const stamp = installStamp();
  if (existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp) return;
  const start = Date.now();
  say(`installing dependencies with ${pinned} on Node ${process.versions.node}, ${process.platform}-${process.arch}`);
  const [command = "", ...lead] = pnpm;
  const { status } = spawnSync(
    command,
    [...lead, "install", "--frozen-lockfile", "--prefer-offline", "--reporter=append-only", "--loglevel=error"],
    { cwd: root, env, stdio: ["ignore", 2, 2] },
  );
  if (status !== 0)
    stop(
      "the install failed (messages above). It needs the package registry once: is there a network, or a mirror set?",
    );
  writeFileSync(stampFile, stamp);
  say(`installed in ${secondsSince(start)}`);
}

/** Builds all packages; shows the one line of the native build, and the whole log only when something failed. */
async function build(/** @type {string[]} */ pnpm, /** @type {NodeJS.ProcessEnv} */ env) {
  const start = Date.now();
  say("building");
  const [command = "", ...lead] = pnpm;
  const turbo = spawn(command, [...lead, "exec", "turbo", "run", "build", "--ui=stream"], {
    cwd: root,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  /** @type {string[]} */
  const log = [];
  for (const stream of [turbo.stdout, turbo.stderr])
    createInterface({ input: stream }).on("line", (line) => {
      log.push(line);
      const native = /\[kernels\] (.*)$/.exec(line);
      if (native) say(`kernels: ${native[1]}`);
    });
  const status = await new Promise((done) => turbo.on("error", () => done(1)).on("close", done));
  if (status !== 0) stop(`${log.join("\n")}\n[setup] the build failed (messages above)`);
  say(`built in ${secondsSince(start)}`);
}

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 19))
  stop(`Node ${process.versions.node} is too old: this repository needs Node >= 20.19 (22 or 24 recommended)`);
const command =
  JOBS.get(job) ?? stop(`Expected a job to be one of ${[...JOBS.keys()].join(", ")} but received ${job}.`, 2);

const env = childEnvironment();
const pnpm = findPnpm(env);
install(pnpm, env);
await build(pnpm, env);
const [program, ...args] = command[0] === "pnpm" ? [...pnpm, ...command.slice(1)] : command;
if (program)
  process.exitCode = spawnSync(program, [...args, ...rest], { cwd: root, env, stdio: "inherit" }).status ?? 1;
