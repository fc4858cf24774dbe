import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const src = (path: string) => fileURLToPath(new URL(path, import.meta.url));
// Tests run against the sources, so that no stale build can pass them.
const alias = [
  { find: "@pariskv/kernels/dense", replacement: src("./packages/kernels/src/dense/index.ts") },
  ...["quantizer", "kernels", "memory", "retrieval", "evaluation"].map((name) => ({
    find: new RegExp(`^@pariskv/${name}$`),
    replacement: src(`./packages/${name}/src/index.ts`),
  })),
];
const at = (kind: string) => [
  `packages/*/test/**/*.${kind}.test.ts`,
  `apps/*/test/**/*.${kind}.test.ts`,
  `tools/test/**/*.${kind}.test.ts`,
];

// The file's name says the kind: *.test.ts (unit), *.prop.test.ts (properties), *.native.test.ts (loads the addon).
export default defineConfig({
  test: {
    reporters: ["default", "./tools/closing-line.mjs"],
    projects: [
      {
        resolve: { alias },
        test: {
          name: "unit",
          include: ["packages/*/test/**/*.test.ts", "apps/*/test/**/*.test.ts", "tools/test/**/*.test.ts"],
          exclude: [...at("prop"), ...at("native"), "**/node_modules/**"],
          testTimeout: 60_000,
        },
      },
      { resolve: { alias }, test: { name: "property", include: at("prop"), testTimeout: 120_000 } },
      // forks: a crash in the addon ends one worker, not the run; one at a time: each may take the whole device
      {
        resolve: { alias },
        test: { name: "native", include: at("native"), pool: "forks", fileParallelism: false, testTimeout: 300_000 },
      },
    ],
  },
});
