import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
let folder = "";
beforeAll(() => {
  // Inside the repository, so that the test files find vitest.
  mkdirSync(join(root, ".setup"), { recursive: true });
  folder = mkdtempSync(join(root, ".setup", "closing-line-"));
  // Without one of its own it would take the configuration of the repository.
  writeFileSync(join(folder, "vitest.config.js"), "export default {};");
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Runs vitest with the reporter on one test file and returns its last lines and its exit code. */
function run(body: string, options: { ci?: boolean; args?: string[] } = {}) {
  writeFileSync(join(folder, "a.test.js"), `import { beforeAll, describe, test } from "vitest";\n${body}`);
  const env: NodeJS.ProcessEnv = { ...process.env, CI: options.ci ? "true" : "" };
  // The outer run's own marks would make the inner one believe that it is a worker.
  for (const name of Object.keys(env)) if (/^(VITEST|TEST$|NODE_ENV$|VITE_)/.test(name)) delete env[name];
  const reporter = join(root, "tools", "closing-line.mjs");
  const args = [join(root, "node_modules/vitest/vitest.mjs"), "run", "--root", folder, `--reporter=${reporter}`];
  const { stdout, status } = spawnSync(process.execPath, [...args, ...(options.args ?? [])], { env, encoding: "utf8" });
  return { lines: stdout.trimEnd().split("\n"), status };
}

describe("the closing line", () => {
  it("counts what passed, failed and was skipped, and ends the output", () => {
    const { lines, status } = run(`
      test("passes", () => {});
      test("fails", () => { throw new Error("on purpose"); });
      test("is skipped", (context) => context.skip("no device here"));
    `);
    expect(lines.slice(-2)).toEqual(["skipped 1: no device here", "1 passed, 1 failed, 1 skipped"]);
    expect(status).toBe(1);
  });

  it("groups skips by their reason", () => {
    const { lines, status } = run(`
      for (const n of [1, 2, 3]) test("is skipped " + n, (context) => context.skip("no device here"));
      test("passes", () => {});
    `);
    expect(lines.slice(-2)).toEqual(["skipped 3: no device here", "1 passed, 0 failed, 3 skipped"]);
    expect(status).toBe(0);
  });

  it("counts a skip without a reason as a failure in CI only", () => {
    const body = 'const { skip } = test;\nskip("is skipped", () => {});\ntest("passes", () => {});';
    const inCi = run(body, { ci: true });
    expect(inCi.lines.slice(-2)).toEqual([
      "skipped without a reason: a.test.js > is skipped",
      "1 passed, 1 failed, 0 skipped",
    ]);
    expect(inCi.status).toBe(1);
    const elsewhere = run(body);
    expect(elsewhere.lines.at(-1)).toBe("1 passed, 0 failed, 1 skipped");
    expect(elsewhere.status).toBe(0);
  });

  it("asks no reason for tests that a name filter left out", () => {
    const { lines, status } = run('test("one", () => {});\ntest("two", () => {});', { ci: true, args: ["-t", "one"] });
    expect(lines.at(-1)).toBe("1 passed, 0 failed, 1 skipped");
    expect(status).toBe(0);
  });

  it("counts a file that does not load and a hook that throws as failures", () => {
    const broken = run('throw new Error("on purpose");');
    expect(broken.lines.at(-1)).toBe("0 passed, 1 failed, 0 skipped");
    expect(broken.status).toBe(1);
    const hook = run(`
      describe("a group", () => {
        beforeAll(() => { throw new Error("on purpose"); });
        test("never runs", () => {});
      });
    `);
    expect(hook.lines.at(-1)).toMatch(/^0 passed, 1 failed/);
    expect(hook.status).toBe(1);
  });
});
