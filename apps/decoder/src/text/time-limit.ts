import { createContext, Script } from "node:vm";

const box: { work: () => unknown } = { work: () => undefined };
const context = createContext(box);
const script = new Script("work()");

/**
 * Runs `work` and stops it after `limitMs` milliseconds, even inside a regular expression.
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
  box.work = work;
  try {
    return script.runInContext(context, { timeout: limitMs }) as Result;
  } catch (error) {
    if ((error as NodeJS.ErrnoException | undefined)?.code === "ERR_SCRIPT_EXECUTION_TIMEOUT") throw limitError(error);
    throw error;
  } finally {
    box.work = outerWork;
  }
}
