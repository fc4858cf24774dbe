import { defineConfig } from "tsup";
export default defineConfig({
  entry: { index: "src/index.ts", "dense/index": "src/dense/index.ts" },
  format: ["esm"],
  dts: false,
  sourcemap: true,
  clean: true,
  target: "node20",
});
