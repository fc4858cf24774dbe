import { InvalidArgumentError } from "@pariskv/quantizer";

/**
 * The tasks, in the order reports show them.
 *
 * - `single_num`, `single_word`, `single_uuid`: one fact in free text, asked for.
 * - `multikey`, `multikey_dense`: many facts, one asked for; dense: nothing but facts.
 * - `multivalue`: four values of one key, all asked for.
 * - `multiquery`: many facts, four asked for in one answer.
 * - `vt`: variable tracking: a chain of one to four assignments, followed to its value.
 * - `list`, `list_long`: up to 64, or a context's worth of, look-ups in one long answer.
 * - `walk`, `walk_long`: a chain of up to 100, or a context's worth of, steps, each known only after the one before.
 */
export const TASKS = [
  "single_num",
  "single_word",
  "single_uuid",
  "multikey",
  "multikey_dense",
  "multivalue",
  "multiquery",
  "vt",
  "list",
  "list_long",
  "walk",
  "walk_long",
] as const;

/** The name of a task. */
export type Task = (typeof TASKS)[number];

/** Returns `task` when it is one of {@link TASKS}; throws InvalidArgumentError when not. */
export function validTask(task: string): Task {
  const known = TASKS.find((name) => name === task);
  if (known === undefined) {
    throw new InvalidArgumentError({ argument: "task", expected: `one of ${TASKS.join(", ")}`, received: task });
  }
  return known;
}
