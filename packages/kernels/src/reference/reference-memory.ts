import { DeviceError, DisposedError, OutOfMemoryError } from "@pariskv/quantizer";
import type { DeviceBuffer, MemoryKind, Ref } from "../context.js";
import { checkTransfer, refuse } from "../validate.js";

/** Distance of the addresses of two buffers, as a power of two: 1 TiB, more than any ArrayBuffer holds. */
const ADDRESS_SHIFT = 40;

/** The bytes of a buffer, viewed as every element type that operators use. */
export class Storage {
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly f32: Float32Array;

  constructor(memory: ArrayBuffer) {
    this.u8 = new Uint8Array(memory);
    this.u16 = new Uint16Array(memory);
    this.u32 = new Uint32Array(memory);
    this.i32 = new Int32Array(memory);
    this.f32 = new Float32Array(memory);
  }
}

/** A place in a storage: what an address or a reference stands for. */
export interface Place {
  readonly storage: Storage;
  readonly offsetBytes: number;
}

/**
 * All memory of a reference context. Buffers have synthetic addresses, `number << 40`, so that page address tables work
 * as they do with real ones.
 */
export class ReferenceMemory {
  readonly #storages = new Map<number, Storage>();
  #buffersMade = 0;

  /** What the process has left, whatever the kind. */
  get availableBytes(): number {
    return process.availableMemory();
  }

  /** Allocates zeroed memory. Throws OutOfMemoryError when the process has not that much left. */
  allocate(bytes: number, kind: MemoryKind): ReferenceBuffer {
    // ArrayBuffers are backed lazily: without this check a request beyond the machine would succeed and kill the
    // process later.
    const { availableBytes } = this;
    if (bytes > availableBytes) throw new OutOfMemoryError({ kind, requestedBytes: bytes, availableBytes });
    let storage: Storage;
    try {
      storage = new Storage(new ArrayBuffer(Math.ceil(bytes / 8) * 8));
    } catch (cause) {
      throw new OutOfMemoryError({ kind, requestedBytes: bytes, availableBytes, cause });
    }
    this.#buffersMade++;
    this.#storages.set(this.#buffersMade, storage);
    return new ReferenceBuffer(this, this.#buffersMade, bytes, kind, storage);
  }

  /** The storage of `ref`, which stays usable when the buffer is disposed later. */
  resolve(argument: string, ref: Ref): Place {
    const buffer = ref.buffer;
    if (!(buffer instanceof ReferenceBuffer) || buffer.memory !== this) {
      refuse(`${argument}.buffer`, "a buffer of this context", buffer);
    }
    return { storage: buffer.requireStorage(), offsetBytes: ref.offsetBytes ?? 0 };
  }

  /** What the two halves of a 64-bit address stand for. Throws DeviceError when no buffer lies there. */
  at(low: number, high: number): Place {
    const storage = this.#storages.get(high >>> (ADDRESS_SHIFT - 32));
    if (storage === undefined) {
      const address = (BigInt(high) << 32n) | BigInt(low);
      throw new DeviceError({ device: "reference", detail: `a page address in no buffer: 0x${address.toString(16)}` });
    }
    return { storage, offsetBytes: (high & (2 ** (ADDRESS_SHIFT - 32) - 1)) * 2 ** 32 + low };
  }

  /** Forgets a buffer; operators queued before still hold its storage. */
  release(number: number): void {
    this.#storages.delete(number);
  }

  /** Forgets all buffers, as the context ends. */
  releaseAll(): void {
    this.#storages.clear();
  }

  /** Whether a buffer is still in use. */
  has(number: number): boolean {
    return this.#storages.has(number);
  }
}

/** A buffer of a reference context. */
export class ReferenceBuffer implements DeviceBuffer {
  readonly address: bigint;
  readonly #number: number;
  #storage: Storage | undefined;

  constructor(
    readonly memory: ReferenceMemory,
    number: number,
    readonly bytes: number,
    readonly kind: MemoryKind,
    storage: Storage,
  ) {
    this.address = BigInt(number) << BigInt(ADDRESS_SHIFT);
    this.#number = number;
    this.#storage = storage;
  }

  write(offsetBytes: number, source: ArrayBufferView): void {
    const { u8 } = this.requireStorage();
    checkTransfer(this.bytes, offsetBytes, "source", source);
    u8.set(new Uint8Array(source.buffer, source.byteOffset, source.byteLength), offsetBytes);
  }

  read(offsetBytes: number, target: ArrayBufferView): void {
    const { u8 } = this.requireStorage();
    checkTransfer(this.bytes, offsetBytes, "target", target);
    const view = new Uint8Array(target.buffer, target.byteOffset, target.byteLength);
    view.set(u8.subarray(offsetBytes, offsetBytes + target.byteLength));
  }

  timeRead(): number {
    const { u32 } = this.requireStorage();
    const begin = performance.now();
    let sum = 0;
    for (const word of u32) sum = (sum + word) | 0;
    // The sum is used, so that no engine may leave the loop out.
    return Math.max((performance.now() - begin) / 1000, Math.abs(sum) * Number.MIN_VALUE);
  }

  dispose(): void {
    this.#storage = undefined;
    this.memory.release(this.#number);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** The bytes of the buffer. Throws DisposedError after the buffer's or the context's dispose. */
  requireStorage(): Storage {
    if (this.#storage === undefined || !this.memory.has(this.#number)) throw new DisposedError({ object: "buffer" });
    return this.#storage;
  }
}
