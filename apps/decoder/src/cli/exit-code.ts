import { ParisKVError, type ParisKVErrorCode } from "@pariskv/quantizer";

/** What the program's exit code tells a script. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  doesNotFit: 3,
  noDevice: 4,
  invalidModel: 5,
  interrupted: 130,
} as const;

const EXIT_OF_CODE: Readonly<Record<ParisKVErrorCode, number>> = {
  PARISKV_INVALID_ARGUMENT: EXIT.usage,
  PARISKV_UNSUPPORTED: EXIT.failure,
  PARISKV_BACKEND_UNAVAILABLE: EXIT.noDevice,
  PARISKV_OUT_OF_MEMORY: EXIT.doesNotFit,
  PARISKV_DEVICE: EXIT.failure,
  PARISKV_SPEC_MISMATCH: EXIT.failure,
  PARISKV_MODEL_FILE: EXIT.invalidModel,
  PARISKV_DISPOSED: EXIT.failure,
};

/** The exit code for an error that ended a command. */
export function exitCodeOf(error: unknown): number {
  if (ParisKVError.isInstance(error)) return EXIT_OF_CODE[error.code];
  if (error instanceof Error && error.name === "AbortError") return EXIT.interrupted;
  return EXIT.failure;
}

/** One sentence about an error, on one line; with `withStack` what a developer needs instead. */
export function describeFailure(error: unknown, withStack: boolean): string {
  if (withStack && error instanceof Error) {
    const cause = error.cause === undefined ? "" : `\nCaused by: ${describeFailure(error.cause, true)}`;
    return `${error.stack ?? error.message}${cause}`;
  }
  const text = (error instanceof Error ? error.message : String(error)).replace(/\s+/g, " ").trim();
  // A file's name may hold codes that a terminal obeys.
  const message = text.replace(/\p{Cc}/gu, "\uFFFD");
  return /[.!?]$/.test(message) ? message : `${message || "An unknown failure"}.`;
}
