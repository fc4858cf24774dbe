// Builds kernels.node with plain CMake, straight into the platform package that the loader asks first.
//   node scripts/build-native.mjs [--require]
// When something is missing, one line says what and the exit code is 0, for the pure TypeScript backend can do all of
// it; with --require (or PARISKV_REQUIRE_NATIVE=1) the exit code is 1.
//   PARISKV_SKIP_NATIVE=1         leaves everything as it is
//   PARISKV_CUDA=auto|on|off      builds the CUDA addon when a GPU and nvcc are there, or in CI | must | must not
//   PARISKV_CUDA_ARCHS="90-real"  CUDA architectures, as CMake names them; "release": those of the published addon.
//                                 Default: those of this machine's GPUs; without one 90-real, to see that it compiles
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const buildFolder = join(root, "build");
const reasonFile = join(buildFolder, "why.txt"); // the loader repeats it: why there is no addon
const required = process.argv.includes("--require") || process.env.PARISKV_REQUIRE_NATIVE === "1";
const platform = `${process.platform}-${process.arch}`;
const CUDA_ARCHITECTURES = ["80", "86", "89", "90", "100", "120"];

const say = (/** @type {string} */ text) => console.log(`[kernels] ${text}`);
const runs = (/** @type {string | undefined} */ command) =>
  Boolean(command) && spawnSync(/** @type {string} */ (command), ["--version"], { stdio: "ignore" }).status === 0;

/** Where an addon belongs: its platform package in the repository, `prebuilds/` in an installed package. */
function destination(/** @type {string} */ name) {
  const platformPackage = join(root, "npm", name);
  return join(existsSync(platformPackage) ? platformPackage : join(root, "prebuilds", name), "kernels.node");
}

/**
 * Ends without an addon, and takes an older one away: it would run other sources than those that are here.
 * @returns {never}
 */
function giveUp(/** @type {string} */ reason) {
  mkdirSync(buildFolder, { recursive: true });
  writeFileSync(reasonFile, reason);
  rmSync(destination(platform), { force: true });
  say(`native addon not built: ${reason}. The pure TypeScript backend will be used.`);
  process.exit(required ? 1 : 0);
}

/** The include folders of Node-API, from npm: nothing is downloaded. */
function nodeApiOptions() {
  const require = createRequire(import.meta.url);
  try {
    return [
      `-DPARISKV_NODE_API_INC=${require("node-api-headers").include_dir}`,
      // Not its include_dir, which is relative to the working folder.
      `-DPARISKV_ADDON_API_INC=${dirname(require.resolve("node-addon-api/package.json"))}`,
    ];
  } catch {
    return giveUp("node-addon-api and node-api-headers are not installed");
  }
}

/** What this nvcc can build of the published architectures; the lowest and the highest also as PTX, for other GPUs. */
function releaseArchitectures(/** @type {string} */ nvcc) {
  const { stdout } = spawnSync(nvcc, ["--list-gpu-code"], { encoding: "utf8" });
  const known = new Set(String(stdout).match(/(?<=sm_)\d+/g));
  const chosen = CUDA_ARCHITECTURES.filter((architecture) => known.has(architecture));
  if (chosen.length === 0) return "native";
  return [...chosen.map((name) => `${name}-real`), `${chosen[0]}-virtual`, `${chosen.at(-1)}-virtual`].join(";");
}

function cudaArchitectures(/** @type {string} */ nvcc) {
  const wish = process.env.PARISKV_CUDA_ARCHS;
  if (wish === "release") return releaseArchitectures(nvcc);
  return wish ?? (runs("nvidia-smi") ? "native" : "90-real");
}

/**
 * Configures, builds and puts one addon in place; returns the failed step and its log, or undefined.
 *
 * @param {string} name
 * @param {string[]} options
 * @param {NodeJS.ProcessEnv} [env]
 */
function build(name, options, env = {}) {
  const folder = join(buildFolder, name);
  const start = Date.now();
  const generator = runs("ninja") ? ["-G", "Ninja"] : [];
  const configure = ["-S", root, "-B", folder, ...generator, ...nodeApiOptions(), ...options];
  for (const args of [
    configure,
    ["--build", folder, "--config", "Release", "--parallel", String(availableParallelism())],
  ]) {
    const { status, stdout, stderr } = spawnSync("cmake", args, {
      encoding: "utf8",
      maxBuffer: 2 ** 28,
      env: { ...process.env, ...env },
    });
    if (status === 0) continue;
    // A failed configure leaves "no such compiler" in the cache and would fail again after the repair.
    if (args === configure) rmSync(folder, { recursive: true, force: true });
    return { step: args === configure ? "cmake could not configure" : "the compiler failed", log: stdout + stderr };
  }
  const built = [join(folder, "kernels.node"), join(folder, "Release", "kernels.node")].find(existsSync);
  if (!built) return { step: "cmake made no kernels.node", log: "" };
  const target = destination(name);
  mkdirSync(dirname(target), { recursive: true });
  copyFileSync(built, `${target}.tmp`);
  renameSync(`${target}.tmp`, target); // by name, not in place: a running Node may have the old one mapped
  say(`built the ${name} addon in ${((Date.now() - start) / 1000).toFixed(1)} s`);
  return undefined;
}

if (process.env.PARISKV_SKIP_NATIVE === "1") {
  say("native build skipped (PARISKV_SKIP_NATIVE=1)");
  process.exit(0);
}
if (!runs("cmake")) giveUp("cmake not found (Debian, Ubuntu: apt-get install cmake g++)");
const compilers = process.env.CXX ? [process.env.CXX] : ["c++", "g++", "clang++"];
if (!compilers.some(runs)) giveUp("no C++17 compiler found (Debian, Ubuntu: apt-get install g++)");
if (process.platform !== "win32" && !runs("ninja") && !runs("make"))
  giveUp("neither ninja nor make found (Debian, Ubuntu: apt-get install make)");

const cpu = build(platform, ["-DPARISKV_CUDA=OFF"]);
if (cpu) {
  process.stderr.write(cpu.log);
  giveUp(cpu.step);
}
rmSync(reasonFile, { force: true });

// CUDA second and in a folder of its own, so that a broken nvcc never costs the CPU backend.
const cudaWish = (process.env.PARISKV_CUDA ?? "auto").toLowerCase();
const cudaFolder = join(root, "native", "src", "cuda");
const cudaSources =
  existsSync(cudaFolder) && readdirSync(cudaFolder, { recursive: true }).some((file) => String(file).endsWith(".cu"));
// Without a GPU the CUDA addon would only cost minutes; CI compiles it all the same, so that it keeps compiling.
const cudaWanted = cudaWish === "on" || (cudaWish === "auto" && (runs("nvidia-smi") || process.env.CI === "true"));
if (cudaWish !== "off" && !cudaWanted && cudaSources)
  say("no GPU here: the CUDA addon is not built (PARISKV_CUDA=on builds it)");
if (cudaWanted && (cudaSources || cudaWish === "on")) {
  const home = process.env.CUDA_HOME;
  const nvcc = [process.env.CUDACXX, "nvcc", home && join(home, "bin/nvcc"), "/usr/local/cuda/bin/nvcc"].find(runs);
  const architectures = nvcc ? cudaArchitectures(nvcc) : "";
  const failure = nvcc
    ? build(`${platform}-cuda`, ["-DPARISKV_CUDA=ON", `-DCMAKE_CUDA_ARCHITECTURES=${architectures}`], { CUDACXX: nvcc })
    : { step: "nvcc not found", log: "" };
  if (failure) {
    rmSync(destination(`${platform}-cuda`), { force: true });
    process.stderr.write(failure.log);
    say(`CUDA addon not built: ${failure.step}. The CPU backend is in place.`);
    if (cudaWish === "on" || (required && nvcc)) process.exitCode = 1;
  }
}
