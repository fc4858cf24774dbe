import type { CommandIo } from "./command-io.js";

const TERMINAL_STEPS = 1_000;
const PLAIN_STEPS = 4;

/** Shows how far a piece of work has come, on stderr: one line rewritten on a terminal, a few plain lines elsewhere. */
export class Progress {
  readonly #io: CommandIo;
  readonly #label: string;
  readonly #total: number;
  readonly #steps: number;
  #done = 0;
  #shownStep = -1;
  #finished = false;

  /** @param total the amount of work in any unit, above 0. */
  constructor(io: CommandIo, label: string, total: number) {
    this.#io = io;
    this.#label = label;
    this.#total = total;
    this.#steps = io.noticeIsTerminal ? TERMINAL_STEPS : PLAIN_STEPS;
  }

  /** Adds work done; writes only when the figure that is shown changes. */
  add(amount: number): void {
    this.#done = Math.min(this.#total, this.#done + amount);
    const step = Math.floor((this.#done / this.#total) * this.#steps);
    if (this.#finished || step === this.#shownStep || step === 0) return;
    this.#shownStep = step;
    const percent = (100 * step) / this.#steps;
    if (this.#io.noticeIsTerminal) this.#io.writeNotice(`\r${this.#label} ${percent.toFixed(1)} %`);
    else this.#io.writeNotice(`${this.#label} ${percent} %\n`);
  }

  /** Ends the line with a closing text, such as a speed; further work is not shown. */
  finish(closing: string): void {
    if (this.#finished) return;
    this.#finished = true;
    const clear = this.#io.noticeIsTerminal ? "\r\u001b[K" : "";
    this.#io.writeNotice(`${clear}${this.#label}: ${closing}\n`);
  }
}
