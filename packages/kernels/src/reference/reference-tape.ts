import { DisposedError } from "@pariskv/quantizer";
import type { Tape } from "../context.js";
import type { Operator, ReferenceQueue } from "./reference-queue.js";

/** A tape of closures. */
export class ReferenceTape implements Tape {
  readonly #queue: ReferenceQueue;
  #operators: readonly Operator[] | undefined;

  constructor(queue: ReferenceQueue, operators: readonly Operator[]) {
    this.#queue = queue;
    this.#operators = operators;
  }

  run(): void {
    if (this.#operators === undefined) throw new DisposedError({ object: "tape" });
    this.#queue.runAll(this.#operators);
  }

  /** JavaScript has one thread, so the work only moves to a later turn of the event loop. */
  async runAsync(): Promise<void> {
    // A tape that is disposed before its turn still runs, as queued work does.
    const operators = this.#operators;
    if (operators === undefined) throw new DisposedError({ object: "tape" });
    this.#queue.requireOpen();
    await new Promise(setImmediate);
    this.#queue.runAll(operators);
  }

  dispose(): void {
    this.#operators = undefined;
  }
}
