import { DisposedError } from "@pariskv/quantizer";
import type {
  Cache,
  CacheParams,
  DeviceBuffer,
  MemoryKind,
  Plan,
  PlanField,
  PlanParams,
  Ref,
  Tape,
} from "../context.js";
import { PLAN_FIELD } from "../layout.js";
import { checkOneOf, checkTransfer } from "../validate.js";
import type { Addon, Handle } from "./addon.js";
import { fromAddonError, guarded } from "./native-error.js";

/** Where an object's calls go: the addon, and the name of the device for its errors. */
export interface NativeOwner {
  readonly addon: Addon;
  readonly device: string;
}

/** The share of every native object: a handle that `dispose` gives up. */
abstract class NativeObject {
  #handle: Handle | undefined;

  protected constructor(
    readonly owner: NativeOwner,
    handle: Handle,
    private readonly noun: string,
  ) {
    this.#handle = handle;
  }

  /** Throws DisposedError after dispose. */
  get handle(): Handle {
    if (this.#handle === undefined) throw new DisposedError({ object: this.noun });
    return this.#handle;
  }

  dispose(): void {
    const handle = this.#handle;
    this.#handle = undefined;
    if (handle !== undefined) this.release(handle);
  }

  protected abstract release(handle: Handle): void;
}

/** A buffer of a native context. */
export class NativeBuffer extends NativeObject implements DeviceBuffer {
  readonly address: bigint;

  constructor(
    owner: NativeOwner,
    handle: Handle,
    readonly bytes: number,
    readonly kind: MemoryKind,
  ) {
    super(owner, handle, "buffer");
    this.address = owner.addon.bufferAddress(handle);
  }

  write(offsetBytes: number, source: ArrayBufferView): void {
    const { owner, handle } = this;
    checkTransfer(this.bytes, offsetBytes, "source", source);
    guarded(owner.device, () => owner.addon.writeBuffer(handle, offsetBytes, source));
  }

  read(offsetBytes: number, target: ArrayBufferView): void {
    const { owner, handle } = this;
    checkTransfer(this.bytes, offsetBytes, "target", target);
    guarded(owner.device, () => owner.addon.readBuffer(handle, offsetBytes, target));
  }

  timeRead(): number {
    const { owner, handle } = this;
    return guarded(owner.device, () => owner.addon.timeReadBuffer(handle));
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  protected release(handle: Handle): void {
    this.owner.addon.disposeBuffer(handle);
  }
}

/** A cache of a native context. */
export class NativeCache extends NativeObject implements Cache {
  constructor(
    owner: NativeOwner,
    handle: Handle,
    readonly params: CacheParams,
  ) {
    super(owner, handle, "cache");
  }

  protected release(handle: Handle): void {
    this.owner.addon.disposeCache(handle);
  }
}

/** A plan of a native context. */
export class NativePlan extends NativeObject implements Plan {
  readonly bytes: number;
  readonly #workspace: NativeBuffer;

  constructor(
    owner: NativeOwner,
    handle: Handle,
    readonly params: PlanParams,
  ) {
    super(owner, handle, "plan");
    const [buffer, bytes] = owner.addon.planBuffer(handle);
    this.bytes = bytes;
    this.#workspace = new NativeBuffer(owner, buffer, bytes, "device");
  }

  field(name: PlanField): Ref {
    const { handle } = this;
    checkOneOf("name", name, Object.keys(FIELD_NUMBERS) as PlanField[]);
    return { buffer: this.#workspace, offsetBytes: this.owner.addon.planField(handle, FIELD_NUMBERS[name]) };
  }

  protected release(handle: Handle): void {
    this.#workspace.dispose();
    this.owner.addon.disposePlan(handle);
  }
}

const FIELD_NUMBERS: Readonly<Record<PlanField, number>> = {
  rotated: PLAN_FIELD.ROTATED,
  tables: PLAN_FIELD.TABLES,
  scores: PLAN_FIELD.SCORES,
  candidates: PLAN_FIELD.CANDIDATES,
  candidateCount: PLAN_FIELD.CANDIDATE_COUNT,
  estimates: PLAN_FIELD.ESTIMATES,
  priorities: PLAN_FIELD.PRIORITIES,
  selected: PLAN_FIELD.SELECTED,
  selectedCount: PLAN_FIELD.SELECTED_COUNT,
  stats: PLAN_FIELD.STATS,
  hotHits: PLAN_FIELD.HOT_HITS,
};

/** A tape of a native context. */
export class NativeTape extends NativeObject implements Tape {
  constructor(owner: NativeOwner, handle: Handle) {
    super(owner, handle, "tape");
  }

  run(): void {
    const { owner, handle } = this;
    guarded(owner.device, () => owner.addon.runTape(handle));
  }

  async runAsync(): Promise<void> {
    const { owner, handle } = this;
    try {
      await owner.addon.runTapeAsync(handle);
    } catch (error) {
      throw fromAddonError(error, owner.device);
    }
  }

  protected release(handle: Handle): void {
    this.owner.addon.disposeTape(handle);
  }
}
