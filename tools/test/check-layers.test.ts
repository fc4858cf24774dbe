import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkLayers } from "../check-layers.mjs";

let root = "";
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "pariskv layers "));
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

function put(path: string, text: string): void {
  mkdirSync(join(root, dirname(path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

describe("the order of the packages", () => {
  it("accepts imports from the left, from the package itself and from Node", () => {
    put("packages/retrieval/src/index.ts", 'export { a } from "./a.js";\nimport { Page } from "@pariskv/memory";');
    put("packages/memory/src/a.ts", 'import { readFileSync } from "node:fs";\nimport "@pariskv/kernels/dense";');
    expect(checkLayers(root)).toEqual([]);
  });

  it("finds an import from the right, whatever its form", () => {
    put("packages/kernels/src/a.ts", 'import type { Page } from "@pariskv/memory";');
    put("packages/kernels/src/b.ts", 'export { Page } from "@pariskv/memory";');
    put("packages/kernels/test/c.test.ts", 'const memory = await import("@pariskv/memory");');
    put("packages/kernels/src/d.ts", 'type Page = import("@pariskv/memory").Page;');
    expect(checkLayers(root)).toEqual([
      "packages/kernels/src/a.ts: imports @pariskv/memory, which lies to the right of @pariskv/kernels",
      "packages/kernels/src/b.ts: imports @pariskv/memory, which lies to the right of @pariskv/kernels",
      "packages/kernels/src/d.ts: imports @pariskv/memory, which lies to the right of @pariskv/kernels",
      "packages/kernels/test/c.test.ts: imports @pariskv/memory, which lies to the right of @pariskv/kernels",
    ]);
  });

  it("is not misled by comments, strings and longer names", () => {
    put("packages/kernels/src/a.ts", '// import "@pariskv/memory";\nconst text = \'import "@pariskv/memory"\';');
    put("packages/kernels/src/b.ts", 'import "@pariskv/memory-of-another-kind";');
    expect(checkLayers(root)).toEqual([]);
  });

  it("finds a relative import that leaves its package, even to the left", () => {
    put("packages/memory/src/a.ts", 'import { PAGE_TOKENS } from "../../quantizer/src/spec.js";');
    put("packages/memory/src/deep/b.ts", 'import { a } from "../a.js";');
    expect(checkLayers(root)).toEqual([
      "packages/memory/src/a.ts: imports ../../quantizer/src/spec.js, which lies outside its package",
    ]);
  });

  it("lets a test borrow the test support of a package to its left, and nobody else", () => {
    put("packages/memory/test/a.test.ts", 'import "../../kernels/test/support/devices.js";');
    expect(checkLayers(root)).toEqual([]);
    put("packages/memory/src/b.ts", 'import "../../kernels/test/support/devices.js";');
    put("packages/memory/test/c.test.ts", 'import "../../kernels/test/other.js";');
    put("packages/quantizer/test/d.test.ts", 'import "../../kernels/test/support/devices.js";');
    expect(checkLayers(root)).toEqual([
      "packages/quantizer/test/d.test.ts: imports ../../kernels/test/support/devices.js, which lies outside its package",
      "packages/memory/src/b.ts: imports ../../kernels/test/support/devices.js, which lies outside its package",
      "packages/memory/test/c.test.ts: imports ../../kernels/test/other.js, which lies outside its package",
    ]);
  });

  it("keeps the quantizer free of dependencies, Node's own modules included, but not its tests", () => {
    put("packages/quantizer/src/a.ts", 'import { createHash } from "node:crypto";');
    put("packages/quantizer/test/a.test.ts", 'import { it } from "vitest";');
    put("packages/quantizer/package.json", JSON.stringify({ dependencies: { zod: "4" } }));
    expect(checkLayers(root)).toEqual([
      "packages/quantizer/src/a.ts: imports node:crypto, but @pariskv/quantizer depends on nothing",
      "packages/quantizer/package.json: dependencies names zod, but @pariskv/quantizer depends on nothing",
    ]);
  });

  it("finds a manifest that names its right neighbour or itself", () => {
    put("packages/memory/package.json", JSON.stringify({ dependencies: { "@pariskv/kernels": "*" } }));
    put("packages/kernels/package.json", JSON.stringify({ devDependencies: { "@pariskv/memory": "*" } }));
    put("apps/decoder/package.json", JSON.stringify({ peerDependencies: { "@pariskv/decoder": "*" } }));
    expect(checkLayers(root)).toEqual([
      "packages/kernels/package.json: devDependencies names @pariskv/memory, which is not to the left of @pariskv/kernels",
      "apps/decoder/package.json: peerDependencies names @pariskv/decoder, which is not to the left of @pariskv/decoder",
    ]);
  });
});

describe("the order of the native folders", () => {
  const native = "packages/kernels/native";

  it("accepts node -> abi -> core <- cpu, cuda, the public headers and the system's", () => {
    put(`${native}/include/pkv.h`, "#include <stdint.h>");
    put(`${native}/src/core/context.h`, '#include "pkv.h"\n#include <vector>');
    put(`${native}/src/abi/abi.h`, '#include "../core/context.h"');
    put(`${native}/src/node/addon.cpp`, '#include "../abi/abi.h"\n#include <napi.h>');
    put(`${native}/src/cpu/collide.cpp`, '#include "core/context.h"\n#include <immintrin.h>');
    put(`${native}/src/cuda/collide.cu`, '#include "core/context.h"\n#include <cuda_runtime.h>');
    expect(checkLayers(root)).toEqual([]);
  });

  it("finds an include against the order, found beside the file or from the root of the sources", () => {
    put(`${native}/src/cpu/cpu.h`, "");
    put(`${native}/src/node/addon.h`, "");
    put(`${native}/src/core/context.cpp`, '#include "../cpu/cpu.h"');
    put(`${native}/src/cuda/collide.cu`, '  #  include "cpu/cpu.h"');
    put(`${native}/src/abi/abi.cpp`, '#include "node/addon.h"');
    expect(checkLayers(root)).toEqual([
      `${native}/src/abi/abi.cpp: includes node/addon.h of node/, but abi/ may see only core/`,
      `${native}/src/core/context.cpp: includes ../cpu/cpu.h of cpu/, but core/ may see no other folder`,
      `${native}/src/cuda/collide.cu: includes cpu/cpu.h of cpu/, but cuda/ may see only core/`,
    ]);
  });

  it("keeps the Node-API headers in node/ and the CUDA headers in cuda/", () => {
    put(`${native}/include/pkv.h`, "#include <cuda_runtime.h>");
    put(`${native}/src/abi/abi.cpp`, "#include <node_api.h>");
    put(`${native}/src/cpu/a.cpp`, "#include <cub/cub.cuh>\n// #include <napi.h> in a comment");
    put(`${native}/src/node/addon.cpp`, "#include <cuda.h>");
    expect(checkLayers(root)).toEqual([
      `${native}/src/abi/abi.cpp: includes <node_api.h>, which only node/ may`,
      `${native}/src/cpu/a.cpp: includes <cub/cub.cuh>, which only cuda/ may`,
      `${native}/src/node/addon.cpp: includes <cuda.h>, which only cuda/ may`,
      `${native}/include/pkv.h: includes <cuda_runtime.h>, but public headers are plain C`,
    ]);
  });

  it("finds a source that lies in no known folder", () => {
    put(`${native}/src/util.h`, "");
    expect(checkLayers(root)).toEqual([`${native}/src/util.h: lies in none of node/, abi/, core/, cpu/, cuda/`]);
  });
});
