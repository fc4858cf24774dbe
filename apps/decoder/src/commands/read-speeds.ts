import type { Context, MemoryKind } from "@pariskv/kernels";
import { OutOfMemoryError } from "@pariskv/quantizer";

/** How fast a device reads one kind of memory, or why that is not known. */
export type ReadSpeed = { readonly kind: MemoryKind; readonly bytes: number } & (
  | { readonly bytesPerSecond: number }
  | { readonly reason: string }
);

/** Far more than caches hold, and little of what a machine has. */
const GPU_BYTES = 2 ** 30;
const HOST_BYTES = 2 ** 28;
const RUNS = 5;

/**
 * Measures how fast a context's device reads memory with everything it has: its own, and on a GPU that of the host in
 * place. Plain TypeScript is not measured.
 */
export function measureReadSpeeds(context: Context): ReadSpeed[] {
  if (context.device === "reference") return [];
  if (context.device === "cpu") return [measure(context, "device", HOST_BYTES)];
  return [measure(context, "device", GPU_BYTES), measure(context, "mapped", HOST_BYTES)];
}

function measure(context: Context, kind: MemoryKind, bytes: number): ReadSpeed {
  try {
    using buffer = context.allocate(bytes, kind);
    const seconds = Array.from({ length: RUNS }, () => buffer.timeRead()).sort((a, b) => a - b);
    return { kind, bytes, bytesPerSecond: bytes / (seconds[RUNS >> 1] as number) };
  } catch (error) {
    if (!(error instanceof OutOfMemoryError)) throw error;
    return { kind, bytes, reason: error.message };
  }
}
