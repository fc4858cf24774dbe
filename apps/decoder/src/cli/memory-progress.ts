import type { PageReservation } from "@pariskv/memory";
import type { CommandIo } from "./command-io.js";
import { Progress } from "./progress.js";

/** Less memory than this is taken before anybody wonders what the program does. */
const SHOWN_BYTES = 4 * 2 ** 30;

/** Shows how far the memory for a prompt has been taken, on stderr; says nothing where that is done in a moment. */
export class MemoryProgress {
  readonly #io: CommandIo;
  readonly #beginMs = performance.now();
  #progress: Progress | undefined;
  #shownBytes = 0;

  constructor(io: CommandIo) {
    this.#io = io;
  }

  show({ takenBytes, wantedBytes }: PageReservation): void {
    if (wantedBytes < SHOWN_BYTES) return;
    this.#progress ??= new Progress(this.#io, "memory", wantedBytes);
    this.#progress.add(takenBytes - this.#shownBytes);
    this.#shownBytes = takenBytes;
    if (takenBytes < wantedBytes) return;
    const seconds = (performance.now() - this.#beginMs) / 1000;
    this.#progress.finish(`${(wantedBytes / 2 ** 30).toFixed(1)} GiB in ${seconds.toFixed(1)} s`);
  }
}
