import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import * as kernels from "../src/index.js";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");

describe("the README", () => {
  it("has an example that runs and prints what it says", () => {
    const example = /```js\n([\s\S]*?)```/.exec(readme)?.[1] ?? "";
    const [, names, body] = /^import \{([^}]+)\} from "@pariskv\/kernels";\n([\s\S]*)$/.exec(example) ?? [];
    const promised = /console\.log\(.*\); \/\/ (.*)/.exec(example)?.[1];
    const printed: unknown[] = [];
    const run = new Function("console", "kernels", `const {${names}} = kernels;\n${body}`);
    run({ log: (...values: unknown[]) => printed.push(values.join(" ")) }, kernels);
    expect(printed).toEqual([promised]);
  });

  it("names every operator of a context", () => {
    using context = kernels.createContext({ device: "reference" });
    const operators =
      "append probe collide select rerank attend encode offload commit embed rmsnorm linear rope swiglu";
    for (const verb of [...operators.split(" "), "argmax", "attendCausal", "copy", "record", "takeTimes"]) {
      expect(context).toHaveProperty(verb);
      expect(readme).toContain(`\`${verb}\``);
    }
  });
});
