import { DisposedError } from "@pariskv/quantizer";
import type { VerbTime } from "../context.js";
import { refuse } from "../validate.js";
import { ReferenceTape } from "./reference-tape.js";

/** A queued operator: its verb and the work, with all arguments resolved. */
export interface Operator {
  readonly verb: string;
  readonly run: () => void;
}

/** Runs operators, now or into the tape being recorded, and adds up their times. */
export class ReferenceQueue {
  #recording: Operator[] | undefined;
  #times = new Map<string, { calls: number; microseconds: number }>();
  #closed = false;

  /** Runs an operator at once, or appends it to the tape that is being recorded. */
  submit(verb: string, run: () => void): void {
    this.requireOpen();
    if (this.#recording === undefined) this.#execute({ verb, run });
    else this.#recording.push({ verb, run });
  }

  /** Calls `body` and collects what it submits; whatever it throws ends the recording and goes on. */
  record(body: () => void): ReferenceTape {
    this.requireOpen();
    if (this.#recording !== undefined) refuse("record", "called outside another record", "a call inside one");
    const operators: Operator[] = [];
    this.#recording = operators;
    try {
      body();
    } finally {
      this.#recording = undefined;
    }
    return new ReferenceTape(this, operators);
  }

  /** Runs the operators of a tape in order. */
  runAll(operators: readonly Operator[]): void {
    this.requireOpen();
    if (this.#recording !== undefined) refuse("run", "called outside record", "a call inside one");
    for (const operator of operators) this.#execute(operator);
  }

  /** The times since the last call. */
  takeTimes(): Map<string, VerbTime> {
    this.requireOpen();
    const times = this.#times;
    this.#times = new Map();
    return times;
  }

  /** Refuses all further work. */
  close(): void {
    this.#closed = true;
  }

  /** Throws DisposedError once the context is disposed. */
  requireOpen(): void {
    if (this.#closed) throw new DisposedError({ object: "context" });
  }

  #execute({ verb, run }: Operator): void {
    const startedMs = performance.now();
    run();
    const microseconds = (performance.now() - startedMs) * 1000;
    const time = this.#times.get(verb);
    if (time === undefined) this.#times.set(verb, { calls: 1, microseconds });
    else {
      time.calls++;
      time.microseconds += microseconds;
    }
  }
}
