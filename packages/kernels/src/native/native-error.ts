import {
  BackendUnavailableError,
  DeviceError,
  DisposedError,
  InvalidArgumentError,
  OutOfMemoryError,
  UnsupportedError,
} from "@pariskv/quantizer";

/** `pkv_status` of `native/include/pkv.h`. */
const STATUS = { INVALID_ARGUMENT: 1, UNSUPPORTED: 2, UNAVAILABLE: 3, OUT_OF_MEMORY: 4, DEVICE_FAILED: 5, DISPOSED: 6 };

/** The fields that the addon puts on its errors (`pkv_error`). */
interface AddonError extends Error {
  readonly status?: number;
  readonly argument: string;
  readonly expected: string;
  readonly received: string;
  readonly requestedBytes: number;
  readonly availableBytes: number;
}

/** What the addon threw, as an error of the family with the original as its cause; anything else stays as it is. */
export function fromAddonError(cause: unknown, device: string): unknown {
  const error = cause as AddonError;
  const { argument, expected, received } = error;
  switch (error.status) {
    case STATUS.INVALID_ARGUMENT:
      return new InvalidArgumentError({ argument, expected, received, cause });
    case STATUS.UNSUPPORTED:
      return new UnsupportedError({ feature: received, cause });
    case STATUS.UNAVAILABLE:
      return new BackendUnavailableError({ backend: argument, reason: received, cause });
    case STATUS.OUT_OF_MEMORY: {
      const { requestedBytes, availableBytes } = error;
      return new OutOfMemoryError({ kind: argument, requestedBytes, availableBytes, cause });
    }
    case STATUS.DEVICE_FAILED:
      return new DeviceError({ device, detail: received, cause });
    case STATUS.DISPOSED:
      return new DisposedError({ object: argument, cause });
    default:
      return cause;
  }
}

/** Calls the addon and throws its failures as errors of the family. */
export function guarded<T>(device: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw fromAddonError(error, device);
  }
}
