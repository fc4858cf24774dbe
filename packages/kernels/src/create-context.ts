import { BackendUnavailableError } from "@pariskv/quantizer";
import type { Context, ContextOptions, CpuIsa, DeviceName } from "./context.js";
import { findAddon } from "./native/addon.js";
import { DEVICE_NUMBERS, NativeContext } from "./native/native-context.js";
import { guarded } from "./native/native-error.js";
import { createReferenceContext } from "./reference/reference-context.js";
import { checkInteger, checkOneOf } from "./validate.js";

/** Whether a device can be used here: what a context on it would be, or why there can be none. */
export type DeviceStatus =
  | { readonly device: DeviceName; readonly available: true; readonly detail: string }
  | { readonly device: DeviceName; readonly available: false; readonly reason: string };

type NativeDevice = keyof typeof DEVICE_NUMBERS;

const DEVICES: readonly ContextOptions["device"][] = ["auto", "cuda", "cpu", "reference"];
const ISAS: readonly CpuIsa[] = ["portable", "avx2", "avx512", "amx"];
/** More threads than any machine of today has cores for. */
const MAX_THREADS = 1024;

/**
 * Opens a context on the fastest device that is present (CUDA, then the CPU, then plain TypeScript), or on the one asked for.
 *
 * Nothing that was asked for is replaced in silence: neither the device, nor the instruction set of `isa` or of the
 * environment variable PARISKV_CPU_ISA. `deviceStatus` tells why a device was passed over.
 *
 * @throws InvalidArgumentError for a wrong option; BackendUnavailableError with the reason when the device is not there;
 *   SpecMismatchError when the only addon was built from other constants than this package.
 *
 * @example
 * using context = createContext();
 * const buffer = context.allocate(1024, "device");
 */
export function createContext(options: ContextOptions = {}): Context {
  const { device = "auto", threads } = options;
  checkOptions(options);
  if (device === "reference") return createReferenceContext();
  const search = findAddon();
  if (search.addon === undefined) {
    if (device === "auto" && isaOf(options) === undefined) return createReferenceContext();
    const backend = device === "auto" ? "cpu" : device; // an instruction set was asked for
    throw search.mismatch ?? new BackendUnavailableError({ backend, reason: search.reason });
  }
  const chosen = device === "auto" ? fastest(options) : device;
  return new NativeContext(search.addon, { device: chosen, threads, isa: isaOf(options) });
}

/**
 * Every device, fastest first, and whether it can be used here with these options.
 *
 * @throws InvalidArgumentError for a wrong option.
 */
export function deviceStatus(options: Omit<ContextOptions, "device"> = {}): DeviceStatus[] {
  checkOptions(options);
  return [
    nativeStatus("cuda", options),
    nativeStatus("cpu", options),
    { device: "reference", available: true, detail: "plain TypeScript, 1 thread" },
  ];
}

function fastest(options: ContextOptions): NativeDevice {
  return nativeStatus("cuda", options).available ? "cuda" : "cpu";
}

function nativeStatus(device: NativeDevice, options: ContextOptions): DeviceStatus {
  const search = findAddon();
  if (search.addon === undefined) return { device, available: false, reason: search.reason };
  const { addon } = search;
  const [available, text] = guarded(device, () =>
    addon.probeDevice(DEVICE_NUMBERS[device], options.threads ?? 0, isaOf(options) ?? null),
  );
  return available ? { device, available, detail: text } : { device, available, reason: text };
}

/** The instruction set that is asked for, by option or environment. */
function isaOf({ isa }: ContextOptions): string | undefined {
  return isa ?? (process.env.PARISKV_CPU_ISA || undefined);
}

function checkOptions({ device = "auto", threads, isa }: ContextOptions): void {
  checkOneOf("device", device, DEVICES);
  if (threads !== undefined) checkInteger("threads", threads, 1, MAX_THREADS);
  if (isa !== undefined) checkOneOf("isa", isa, ISAS);
}
