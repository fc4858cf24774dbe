import { createContext, Script } from "node:vm";

const box: { work: () => unknown } = { work: () => undefined };
const context = createContext(box);
const script = new Script("work()");

/** Runs that may be lost to a process that stands still before the limit counts all the same. */
const MOST_RUNS = 4;

/**
 * Runs `work` and stops it after `limitMs` milliseconds, even inside a regular expression. A run that was stopped although
 * the process had little of the processor, because the machine slept or was busy, is started again: `work` must not mind.
 *
 * For code that a model file controls (templates, patterns): such a file may loop for ever without being malformed.
 *
 * @throws the error of `limitError()` when the time is over, and whatever `work` throws.
 */
export function withTimeLimit<Result>(
  limitMs: number,
  work: () => Result,
  limitError: (cause: unknown) => Error,
): Result {
  const outerWork = box.work;
  try {
    for (let run = 1; ; run++) {
      box.work = work; // each time: a run that was stopped inside another may have left its own
      const before = process.cpuUsage();
      try {
        return script.runInContext(context, { timeout: limitMs }) as Result;
      } catch (error) {
        if ((error as NodeJS.ErrnoException | undefined)?.code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw error;
        const { user, system } = process.cpuUsage(before);
        const wasStarved = (user + system) / 1000 < limitMs / 2;
        if (!wasStarved || run === MOST_RUNS) throw limitError(error);
      }
    }
  } finally {
    box.work = outerWork;
  }
}
