#!/usr/bin/env node
// The order of the packages and of the native folders, checked: every layer imports from its left only.
//   node tools/check-layers.mjs [root]     prints each breach and exits 1 when there is one
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import typescript from "typescript";

/** The packages from left to right; a folder may import the names before its own. */
export const PACKAGES = [
  { folder: "packages/quantizer", name: "@pariskv/quantizer" },
  { folder: "packages/kernels", name: "@pariskv/kernels" },
  { folder: "packages/memory", name: "@pariskv/memory" },
  { folder: "packages/retrieval", name: "@pariskv/retrieval" },
  { folder: "packages/evaluation", name: "@pariskv/evaluation" },
  { folder: "apps/decoder", name: "@pariskv/decoder" },
];

/** `node/ -> abi/ -> core/ <- cpu/, cuda/`: what each native folder may include besides itself and the public headers. */
export const NATIVE = new Map([
  ["node", ["abi"]],
  ["abi", ["core"]],
  ["core", []],
  ["cpu", ["core"]],
  ["cuda", ["core"]],
]);
const NATIVE_SOURCES = "packages/kernels/native/src";
const NATIVE_HEADERS = "packages/kernels/native/include";
const NODE_API = /^(napi|napi-inl|node_api|node_api_types|js_native_api|js_native_api_types|node|uv|v8)(\.h)?$/;
const CUDA =
  /^(cuda|cudart|cuda_\w+|cu(blas|sparse|solver|rand|fft)\w*|nvtx3?|nv\w+|mma|sm_\w+|cooperative_groups|device_launch_parameters|vector_types)(\.h|\.hpp)?$|^(cuda|cub|thrust|cute|cutlass|cooperative_groups|nvtx3)\//;

/** Every file under a folder whose name ends in one of the extensions; nothing when the folder is absent. */
function filesUnder(/** @type {string} */ folder, /** @type {RegExp} */ extension) {
  /** @type {string[]} */
  const found = [];
  if (!existsSync(folder)) return found;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && !["node_modules", "dist", "build"].includes(entry.name))
      found.push(...filesUnder(path, extension));
    else if (entry.isFile() && extension.test(entry.name)) found.push(path);
  }
  return found.sort();
}

const layerOf = (/** @type {string} */ specifier) =>
  PACKAGES.findIndex(({ name }) => specifier === name || specifier.startsWith(`${name}/`));

/** Breaches of the package order in sources, tests and benches. */
function checkImports(/** @type {string} */ root) {
  const breaches = [];
  for (const [layer, { folder, name }] of PACKAGES.entries()) {
    const home = join(root, folder);
    // Tests may borrow the test support of a package to their left: a second copy would drift.
    const lent = PACKAGES.slice(0, layer).map((left) => join(root, left.folder, "test", "support") + sep);
    const borrowsTestSupport = (/** @type {string} */ file, /** @type {string} */ path) =>
      file.startsWith(join(home, "test") + sep) && lent.some((support) => path.startsWith(support));
    for (const file of ["src", "test", "bench"].flatMap((part) => filesUnder(join(home, part), /\.[cm]?[jt]s$/))) {
      const here = relative(root, file);
      // The compiler's own scan: comments and strings that look like imports do not count.
      for (const { fileName } of typescript.preProcessFile(readFileSync(file, "utf8"), true, true).importedFiles) {
        const target = layerOf(fileName);
        if (target > layer) breaches.push(`${here}: imports ${fileName}, which lies to the right of ${name}`);
        const path = resolve(dirname(file), fileName);
        if (fileName.startsWith(".") && !path.startsWith(home + sep) && !borrowsTestSupport(file, path))
          breaches.push(`${here}: imports ${fileName}, which lies outside its package`);
        if (layer === 0 && here.startsWith(join(folder, "src")) && !fileName.startsWith("."))
          breaches.push(`${here}: imports ${fileName}, but ${name} depends on nothing`);
      }
    }
  }
  return breaches;
}

/** Breaches of the package order in the manifests. */
function checkManifests(/** @type {string} */ root) {
  const breaches = [];
  for (const [layer, { folder, name }] of PACKAGES.entries()) {
    const file = join(root, folder, "package.json");
    if (!existsSync(file)) continue;
    const manifest = JSON.parse(readFileSync(file, "utf8"));
    for (const field of ["dependencies", "devDependencies", "peerDependencies", "optionalDependencies"])
      for (const dependency of Object.keys(manifest[field] ?? {})) {
        if (layerOf(dependency) >= layer)
          breaches.push(`${folder}/package.json: ${field} names ${dependency}, which is not to the left of ${name}`);
        if (layer === 0 && field !== "devDependencies")
          breaches.push(`${folder}/package.json: ${field} names ${dependency}, but ${name} depends on nothing`);
      }
  }
  return breaches;
}

/** Breaches of the order of the native folders. */
function checkIncludes(/** @type {string} */ root) {
  const breaches = [];
  const sources = join(root, NATIVE_SOURCES);
  for (const file of filesUnder(sources, /\.(c|cc|cpp|cu|cuh|h|hpp|inc)$/)) {
    const here = relative(root, file);
    const [folder = ""] = relative(sources, file).split(sep);
    const allowed = NATIVE.get(folder);
    if (!allowed) {
      breaches.push(`${here}: lies in none of ${[...NATIVE.keys()].join("/, ")}/`);
      continue;
    }
    for (const [, header = ""] of readFileSync(file, "utf8").matchAll(
      /^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]/gm,
    )) {
      if (NODE_API.test(header) && folder !== "node")
        breaches.push(`${here}: includes <${header}>, which only node/ may`);
      if (CUDA.test(header) && folder !== "cuda") breaches.push(`${here}: includes <${header}>, which only cuda/ may`);
      // As the compiler looks: beside the file first, then from the roots that the build names.
      const path = [dirname(file), sources, join(root, NATIVE_HEADERS)]
        .map((from) => resolve(from, header))
        .find((candidate) => existsSync(candidate));
      if (!path?.startsWith(sources + sep)) continue;
      const [target = ""] = relative(sources, path).split(sep);
      if (target !== folder && !allowed.includes(target))
        breaches.push(`${here}: includes ${header} of ${target}/, but ${folder}/ may see ${sees(allowed)}`);
    }
  }
  for (const file of filesUnder(join(root, NATIVE_HEADERS), /\.(h|hpp)$/))
    for (const [, header = ""] of readFileSync(file, "utf8").matchAll(/^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]/gm))
      if (NODE_API.test(header) || CUDA.test(header))
        breaches.push(`${relative(root, file)}: includes <${header}>, but public headers are plain C`);
  return breaches;
}

const sees = (/** @type {string[]} */ allowed) =>
  allowed.length ? `only ${allowed.map((folder) => `${folder}/`).join(", ")}` : "no other folder";

/** Every breach of the layer order under a root, one sentence each. */
export function checkLayers(/** @type {string} */ root) {
  return [...checkImports(root), ...checkManifests(root), ...checkIncludes(root)];
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const root = resolve(process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), ".."));
  const breaches = checkLayers(root);
  for (const breach of breaches) console.error(breach);
  if (breaches.length === 0) console.log("every layer imports from its left only");
  process.exitCode = breaches.length ? 1 : 0;
}
