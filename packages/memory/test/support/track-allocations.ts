import type { Context, DeviceBuffer } from "@pariskv/kernels";
import { OutOfMemoryError } from "@pariskv/quantizer";

/** What a context has given out and not got back. */
export interface Allocations {
  /** Live buffers. */
  readonly live: Set<DeviceBuffer>;
  /** Bytes of live buffers of one kind. */
  bytes(kind: DeviceBuffer["kind"]): number;
  /** Allocations that still succeed; the next one throws OutOfMemoryError. */
  allowed: number;
}

/** Watches a context's allocations from now on. */
export function trackAllocations(context: Context): Allocations {
  const live = new Set<DeviceBuffer>();
  const allocate = context.allocate.bind(context);
  const allocations: Allocations = {
    live,
    allowed: Number.POSITIVE_INFINITY,
    bytes: (kind) => [...live].reduce((sum, buffer) => sum + (buffer.kind === kind ? buffer.bytes : 0), 0),
  };
  context.allocate = (bytes, kind) => {
    if (allocations.allowed-- <= 0) throw new OutOfMemoryError({ kind, requestedBytes: bytes, availableBytes: 0 });
    const buffer = allocate(bytes, kind);
    const dispose = buffer.dispose.bind(buffer);
    live.add(buffer);
    buffer.dispose = () => {
      live.delete(buffer);
      dispose();
    };
    return buffer;
  };
  return allocations;
}
