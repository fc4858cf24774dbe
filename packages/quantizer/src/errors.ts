const MARKER = Symbol.for("pariskv.error");

/** The stable name of each kind of error, for code that must not depend on classes. */
export type ParisKVErrorCode =
  | "PARISKV_INVALID_ARGUMENT"
  | "PARISKV_UNSUPPORTED"
  | "PARISKV_BACKEND_UNAVAILABLE"
  | "PARISKV_OUT_OF_MEMORY"
  | "PARISKV_DEVICE"
  | "PARISKV_SPEC_MISMATCH"
  | "PARISKV_MODEL_FILE"
  | "PARISKV_DISPOSED";

/** What every error of the family accepts beside its own fields: the error that led to it. */
export interface ErrorCause {
  readonly cause?: unknown;
}

/**
 * The base of every error that ParisKV throws on purpose.
 *
 * Errors are recognised by the marker `Symbol.for("pariskv.error")`, not by `instanceof`, so that two copies of the
 * package in one program agree. Each message has the form
 * "Expected <argument> to be <what> but received <value>."
 */
export abstract class ParisKVError extends Error {
  /** The stable name of the kind of error. */
  abstract readonly code: ParisKVErrorCode;

  protected constructor(message: string, options: ErrorCause) {
    // An absent cause leaves no `cause` property behind, as with plain errors.
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    Object.defineProperty(this, MARKER, { value: true });
  }

  /** Whether `error` belongs to the family, whichever copy of the package made it. */
  static isInstance(error: unknown): error is ParisKVError {
    return typeof error === "object" && error !== null && (error as Record<symbol, unknown>)[MARKER] === true;
  }
}

/** An argument that the callee cannot accept; `received` is the value itself. */
export class InvalidArgumentError extends ParisKVError {
  override readonly name = "InvalidArgumentError";
  readonly code = "PARISKV_INVALID_ARGUMENT";
  readonly argument: string;
  readonly expected: string;
  readonly received: unknown;

  constructor(
    options: { readonly argument: string; readonly expected: string; readonly received: unknown } & ErrorCause,
  ) {
    super(
      `Expected ${options.argument} to be ${options.expected} but received ${describe(options.received)}.`,
      options,
    );
    this.argument = options.argument;
    this.expected = options.expected;
    this.received = options.received;
  }

  static override isInstance(error: unknown): error is InvalidArgumentError {
    return ParisKVError.isInstance(error) && error.code === "PARISKV_INVALID_ARGUMENT";
  }
}

/** Something valid that this version does not do; `feature` is a noun phrase, such as `a head dimension of 96`. */
export class UnsupportedError extends ParisKVError {
  override readonly name = "UnsupportedError";
  readonly code = "PARISKV_UNSUPPORTED";
  readonly feature: string;

  constructor(options: { readonly feature: string } & ErrorCause) {
    super(`Expected the request to be a supported one but received ${options.feature}.`, options);
    this.feature = options.feature;
  }

  static override isInstance(error: unknown): error is UnsupportedError {
    return ParisKVError.isInstance(error) && error.code === "PARISKV_UNSUPPORTED";
  }
}

/** A backend that cannot work here; `reason` is a noun phrase, such as `no driver`. */
export class BackendUnavailableError extends ParisKVError {
  override readonly name = "BackendUnavailableError";
  readonly code = "PARISKV_BACKEND_UNAVAILABLE";
  readonly backend: string;
  readonly reason: string;

  constructor(options: { readonly backend: string; readonly reason: string } & ErrorCause) {
    super(`Expected the ${options.backend} backend to be available but received ${options.reason}.`, options);
    this.backend = options.backend;
    this.reason = options.reason;
  }

  static override isInstance(error: unknown): error is BackendUnavailableError {
    return ParisKVError.isInstance(error) && error.code === "PARISKV_BACKEND_UNAVAILABLE";
  }
}

/** A budget that does not hold the request; `kind` names the memory: `device`, `pinned`, `host`. */
export class OutOfMemoryError extends ParisKVError {
  override readonly name = "OutOfMemoryError";
  readonly code = "PARISKV_OUT_OF_MEMORY";
  readonly kind: string;
  readonly requestedBytes: number;
  readonly availableBytes: number;

  constructor(
    options: { readonly kind: string; readonly requestedBytes: number; readonly availableBytes: number } & ErrorCause,
  ) {
    super(
      `Expected the free ${options.kind} memory to be at least ${options.requestedBytes} bytes but received ${options.availableBytes} bytes.`,
      options,
    );
    this.kind = options.kind;
    this.requestedBytes = options.requestedBytes;
    this.availableBytes = options.availableBytes;
  }

  static override isInstance(error: unknown): error is OutOfMemoryError {
    return ParisKVError.isInstance(error) && error.code === "PARISKV_OUT_OF_MEMORY";
  }
}

/** A device that failed during its work; `detail` is what it reported. */
export class DeviceError extends ParisKVError {
  override readonly name = "DeviceError";
  readonly code = "PARISKV_DEVICE";
  readonly device: string;
  readonly detail: string;

  constructor(options: { readonly device: string; readonly detail: string } & ErrorCause) {
    super(`Expected device ${options.device} to be working but received ${options.detail}.`, options);
    this.device = options.device;
    this.detail = options.detail;
  }

  static override isInstance(error: unknown): error is DeviceError {
    return ParisKVError.isInstance(error) && error.code === "PARISKV_DEVICE";
  }
}

/** Two parts of ParisKV that were built from different specifications. */
export class SpecMismatchError extends ParisKVError {
  override readonly name = "SpecMismatchError";
  readonly code = "PARISKV_SPEC_MISMATCH";
  readonly expected: number | string;
  readonly received: number | string;

  constructor(options: { readonly expected: number | string; readonly received: number | string } & ErrorCause) {
    super(`Expected the specification to be ${options.expected} but received ${options.received}.`, options);
    this.expected = options.expected;
    this.received = options.received;
  }

  static override isInstance(error: unknown): error is SpecMismatchError {
    return ParisKVError.isInstance(error) && error.code === "PARISKV_SPEC_MISMATCH";
  }
}

/**
 * A file that is damaged, missing or not what its name says; `expected` and `received` are noun phrases, such as
 * `a JSON object` and `an array`.
 */
export class ModelFileError extends ParisKVError {
  override readonly name = "ModelFileError";
  readonly code = "PARISKV_MODEL_FILE";
  readonly path: string;
  /** Where in the file the damage begins, when that is known. */
  readonly offsetBytes: number | undefined;
  readonly expected: string;
  readonly received: string;

  constructor(
    options: {
      readonly path: string;
      readonly offsetBytes?: number | undefined;
      readonly expected: string;
      readonly received: string;
    } & ErrorCause,
  ) {
    const place = options.offsetBytes === undefined ? options.path : `${options.path} at byte ${options.offsetBytes}`;
    super(`Expected ${place} to be ${options.expected} but received ${options.received}.`, options);
    this.path = options.path;
    this.offsetBytes = options.offsetBytes;
    this.expected = options.expected;
    this.received = options.received;
  }

  static override isInstance(error: unknown): error is ModelFileError {
    return ParisKVError.isInstance(error) && error.code === "PARISKV_MODEL_FILE";
  }
}

/** The use of an object after its `dispose()`; `object` is its noun, such as `context`. */
export class DisposedError extends ParisKVError {
  override readonly name = "DisposedError";
  readonly code = "PARISKV_DISPOSED";
  readonly object: string;

  constructor(options: { readonly object: string } & ErrorCause) {
    super(`Expected the ${options.object} to be in use but received a disposed one.`, options);
    this.object = options.object;
  }

  static override isInstance(error: unknown): error is DisposedError {
    return ParisKVError.isInstance(error) && error.code === "PARISKV_DISPOSED";
  }
}

/** A value as a short phrase: what a reader needs to find the mistake, never a dump of a buffer. */
function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length <= 80 ? value : `${value.slice(0, 77)}...`);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (ArrayBuffer.isView(value)) {
    return `${value.constructor.name} of ${"length" in value ? `${value.length} elements` : `${value.byteLength} bytes`}`;
  }
  if (Array.isArray(value)) return `an array of ${value.length} elements`;
  if (typeof value === "object" && value !== null) return `an object of type ${value.constructor?.name ?? "null"}`;
  return Object.is(value, -0) ? "-0" : String(value);
}
