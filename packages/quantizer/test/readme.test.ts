import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import * as quantizer from "../src/index.js";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");

describe("the README", () => {
  it("has an example that runs and prints what it says", () => {
    const example = /```js\n([\s\S]*?)```/.exec(readme)?.[1] ?? "";
    const [, names, body] = /^import \{([^}]+)\} from "@pariskv\/quantizer";\n([\s\S]*)$/.exec(example) ?? [];
    const promised = /console\.log\(.*\); \/\/ (.*)/.exec(example)?.[1];
    const printed: unknown[] = [];
    const run = new Function("console", "quantizer", `const {${names}} = quantizer;\n${body}`);
    run({ log: (...values: unknown[]) => printed.push(values.join(" ")) }, quantizer);
    expect(printed).toEqual([promised]);
  });

  it("names every function and class that is exported", () => {
    const functions = Object.entries(quantizer).filter(([, value]) => typeof value === "function");
    expect(functions.length).toBeGreaterThan(40);
    const children = functions.filter(([name]) => name.endsWith("Error") && name !== "ParisKVError");
    expect(children.length).toBe(8);
    for (const [name] of functions) {
      if (!children.some(([child]) => child === name)) expect(readme).toContain(`\`${name}\``);
    }
  });
});
