// Vitest reporter: after the default summary, why each test was skipped, then one line that a script can read:
//   12 passed, 0 failed, 3 skipped
// A skip without a reason is a failure in CI: give one with ctx.skip("why") or ctx.skip(condition, "why").

/** @typedef {import("vitest/node").TestModule} TestModule */

/**
 * Counts the tests of a run; a file that does not load counts as one failure.
 *
 * @param {readonly Pick<TestModule, "children" | "errors" | "relativeModuleId">[]} modules
 */
export function count(modules) {
  let [passed, failed, skipped] = [0, 0, 0];
  /** @type {Map<string, number>} */
  const reasons = new Map();
  /** @type {string[]} */
  const bare = [];
  for (const module of modules) {
    for (const test of module.children.allTests()) {
      const result = test.result();
      if (result.state === "passed") passed++;
      else if (result.state === "failed") failed++;
      else {
        skipped++; // skipped, todo, or never run
        const note = "note" in result ? result.note : undefined;
        if (note) reasons.set(note, (reasons.get(note) ?? 0) + 1);
        else bare.push(`${module.relativeModuleId} > ${test.fullName}`);
      }
    }
    if (module.errors().length > 0) failed++;
    // A hook that throws leaves its tests unrun; they must not pass for skipped.
    for (const suite of module.children.allSuites()) if (suite.errors().length > 0) failed++;
  }
  return { passed, failed, skipped, reasons, bare };
}

export default class ClosingLine {
  /** @type {boolean} */
  #filtered = false;

  onInit(/** @type {import("vitest/node").Vitest} */ vitest) {
    // A run of chosen tests skips the others; nobody owes a reason for that.
    this.#filtered = Boolean(vitest.config.testNamePattern);
  }

  /**
   * @param {readonly TestModule[]} modules
   * @param {readonly unknown[]} unhandled
   * @param {string} reason
   */
  onTestRunEnd(modules, unhandled, reason) {
    const { passed, failed, skipped, reasons, bare } = count(modules);
    const lines = [...reasons].map(([note, times]) => `skipped ${times}: ${note}`);
    if (!this.#filtered) lines.push(...bare.map((test) => `skipped without a reason: ${test}`));
    const refused = !this.#filtered && process.env.CI === "true" ? bare.length : 0;
    if (refused > 0 || reason === "interrupted") process.exitCode = 1;
    lines.push(`${passed} passed, ${failed + unhandled.length + refused} failed, ${skipped - refused} skipped`);
    // The default reporter writes its summary in the same tick; this must come after it.
    process.on("exit", () => process.stdout.write(`\n${lines.join("\n")}\n`));
  }
}
