import { readFileSync } from "node:fs";
import * as kernels from "@pariskv/kernels";
import { describe, expect, test } from "vitest";
import { commandFlags } from "../src/cli/options.js";
import * as decoder from "../src/index.js";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");

describe("the README", () => {
  test("has an example that runs and prints what it says", async () => {
    const example = /```js\n([\s\S]*?)```/.exec(readme)?.[1] ?? "";
    const imports = [...example.matchAll(/^import (\{[^}]+\}) from "@pariskv\/(decoder|kernels)";$/gm)];
    expect(imports.map(([, , name]) => name)).toEqual(["decoder", "kernels"]);
    const body = example.replace(/^import .*$/gm, "");
    const promised = /console\.log\(.*\); \/\/ (.*)/.exec(example)?.[1];
    const printed: unknown[] = [];
    const names = imports.map(([, list, name]) => `const ${list} = ${name};`).join("\n");
    const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor as FunctionConstructor;
    const run = new AsyncFunction(
      "console",
      "decoder",
      "kernels",
      `${names}\n${body}\nmodel.dispose(); context.dispose(); folder.close();`,
    );
    await run({ log: (...values: unknown[]) => printed.push(values.join(" ")) }, decoder, kernels);
    expect(printed).toEqual([promised]);
  });

  test("names every export and every command", () => {
    const names = [...Object.keys(decoder), ...Object.keys(commandFlags)];
    expect(names.length).toBeGreaterThan(20);
    for (const name of names) expect(readme).toContain(`\`${name}\``);
  });
});
