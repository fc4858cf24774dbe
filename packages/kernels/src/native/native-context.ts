import { DisposedError } from "@pariskv/quantizer";
import type {
  Cache,
  CacheParams,
  Context,
  DeviceBuffer,
  MemoryKind,
  Plan,
  PlanParams,
  Tape,
  VerbTime,
} from "../context.js";
import { GROUP, MEMORY, VOTES } from "../layout.js";
import { checkAllocation, checkCacheParams, checkMemoryKind, checkPlanParams, refuse } from "../validate.js";
import * as check from "../validate-operators.js";
import type { Addon, Handle } from "./addon.js";
import { DTYPE_NUMBERS, NativeDense } from "./native-dense.js";
import { guarded } from "./native-error.js";
import { NativeBuffer, NativeCache, NativePlan, NativeTape } from "./native-objects.js";

const MEMORY_NUMBERS = { device: MEMORY.DEVICE, pinned: MEMORY.PINNED, mapped: MEMORY.MAPPED } as const;
const VOTES_NUMBERS = { tiered: VOTES.TIERED, graded: VOTES.GRADED } as const;
const GROUP_NUMBERS = { mean: GROUP.MEAN, max: GROUP.MAX, sum: GROUP.SUM } as const;

/** Numbers of the native devices (`pkv_device`). */
export const DEVICE_NUMBERS = { cpu: 0, cuda: 1 } as const;

/** What a native context is opened with; `isa` undefined: the best present. */
export interface NativeOptions {
  readonly device: keyof typeof DEVICE_NUMBERS;
  readonly threads: number | undefined;
  readonly isa: string | undefined;
}

/** A context on the addon: arguments are checked here, then handed over one by one. */
export class NativeContext extends NativeDense implements Context {
  readonly device: "cpu" | "cuda";
  readonly detail: string;
  #handle: Handle | undefined;

  /** Throws BackendUnavailableError when the device or the instruction set is not there. */
  constructor(
    readonly addon: Addon,
    { device, threads, isa }: NativeOptions,
  ) {
    super();
    this.device = device;
    const handle = guarded(device, () => addon.createContext(DEVICE_NUMBERS[device], threads ?? 0, isa ?? null));
    this.#handle = handle;
    this.detail = addon.contextDetail(handle);
  }

  get handle(): Handle {
    if (this.#handle === undefined) throw new DisposedError({ object: "context" });
    return this.#handle;
  }

  availableBytes(kind: MemoryKind): number {
    const { handle } = this;
    checkMemoryKind(kind);
    return this.call((addon) => addon.availableBytes(handle, MEMORY_NUMBERS[kind]));
  }

  allocate(bytes: number, kind: MemoryKind): DeviceBuffer {
    const { handle } = this;
    checkAllocation(bytes, kind);
    const buffer = this.call((addon) => addon.createBuffer(handle, bytes, MEMORY_NUMBERS[kind]));
    return new NativeBuffer(this, buffer, bytes, kind);
  }

  copy(args: check.OperatorArgs<"copy">): void {
    const { handle } = this;
    check.checkCopy(args);
    const from = this.ref("from", args.from);
    const to = this.ref("to", args.to);
    this.call((addon) => addon.copy(handle, ...from, ...to, args.bytes));
  }

  createCache(params: CacheParams): Cache {
    const { handle } = this;
    checkCacheParams(params);
    const zoneTokens = this.ref("zoneTokens", params.zoneTokens);
    const pageTable = this.ref("pageTable", params.pageTable);
    const pageAddress = this.ref("pageAddress", params.pageAddress);
    const window = this.ref("window", params.window);
    const idCounts = this.optionalRef("idCounts", params.idCounts);
    const invalidKeys = this.ref("invalidKeys", params.invalidKeys);
    const budget = this.ref("budget", params.budget);
    const calibration = this.ref("calibration", params.calibration);
    const hotTags = this.optionalRef("hotSet.tags", params.hotSet?.tags);
    const hotRecords = this.optionalRef("hotSet.records", params.hotSet?.records);
    const { codec } = params;
    const cache = this.call((addon) =>
      addon.createCache(
        handle,
        params.layers,
        params.kvHeads,
        params.queryGroup,
        params.headDim,
        DTYPE_NUMBERS[params.kvDtype],
        params.slots,
        params.sinkTokens,
        params.ringTokens,
        params.maxPages,
        params.pageCapacity,
        ...zoneTokens,
        ...pageTable,
        ...pageAddress,
        ...window,
        ...idCounts,
        ...invalidKeys,
        ...budget,
        ...calibration,
        params.hotSet?.lines ?? 0,
        ...hotTags,
        ...hotRecords,
        codec.signs,
        codec.centres,
        codec.thresholds,
      ),
    );
    return new NativeCache(this, cache, params);
  }

  createPlan(params: PlanParams): Plan {
    const { handle } = this;
    const cache = this.#cache(params.cache);
    checkPlanParams(params);
    const { maxRows, maxZoneTokens, maxCandidates, maxTopK } = params;
    const votes = VOTES_NUMBERS[params.votes];
    const group = GROUP_NUMBERS[params.group];
    const estimateMass = params.estimateMass ? 1 : 0;
    const plan = this.call((addon) =>
      addon.createPlan(handle, cache, maxRows, maxZoneTokens, maxCandidates, maxTopK, votes, group, estimateMass),
    );
    return new NativePlan(this, plan, params);
  }

  append(args: check.OperatorArgs<"append">): void {
    const { handle } = this;
    const cache = this.#cache(args.cache);
    check.checkAppend(args);
    const step = this.step(args.step);
    const k = this.rows("k", args.k);
    const v = this.rows("v", args.v);
    this.call((addon) => addon.append(handle, cache, args.layer, ...step, ...k, ...v));
  }

  probe(args: check.OperatorArgs<"probe">): void {
    const { handle } = this;
    const plan = this.#plan(args.plan);
    check.checkProbe(args);
    const step = this.step(args.step);
    const q = this.rows("q", args.q);
    this.call((addon) => addon.probe(handle, plan, args.layer, ...step, ...q));
  }

  collide(args: check.OperatorArgs<"collide">): void {
    this.#stage("collide", args);
  }

  select(args: check.OperatorArgs<"select">): void {
    this.#stage("select", args);
  }

  rerank(args: check.OperatorArgs<"rerank">): void {
    this.#stage("rerank", args);
  }

  attend(args: check.OperatorArgs<"attend">): void {
    const { handle } = this;
    const plan = this.#plan(args.plan);
    check.checkAttend(args);
    const step = this.step(args.step);
    const q = this.rows("q", args.q);
    const out = this.rows("out", args.out);
    this.call((addon) => addon.attend(handle, plan, args.layer, ...step, ...q, ...out));
  }

  attendCausal(args: check.OperatorArgs<"attendCausal">): void {
    const { handle } = this;
    const cache = this.#cache(args.cache);
    check.checkAttendCausal(args);
    const { layer, firstRow, rowCount } = args;
    const step = this.step(args.step);
    const q = this.rows("q", args.q);
    const out = this.rows("out", args.out);
    this.call((addon) => addon.attendCausal(handle, cache, layer, ...step, firstRow, rowCount, ...q, ...out));
  }

  encode(args: check.OperatorArgs<"encode">): void {
    this.#page("encode", args);
  }

  offload(args: check.OperatorArgs<"offload">): void {
    this.#page("offload", args);
  }

  commit(args: check.OperatorArgs<"commit">): void {
    this.#page("commit", args);
  }

  record(body: () => void): Tape {
    const { handle } = this;
    this.call((addon) => addon.recordBegin(handle));
    try {
      body();
    } catch (error) {
      this.addon.recordCancel(handle);
      throw error;
    }
    return new NativeTape(
      this,
      this.call((addon) => addon.recordEnd(handle)),
    );
  }

  takeTimes(): Map<string, VerbTime> {
    const { handle } = this;
    const triples = this.call((addon) => addon.takeTimes(handle));
    const times = new Map<string, VerbTime>();
    for (let i = 0; i < triples.length; i += 3) {
      const [verb, calls, nanoseconds] = triples.slice(i, i + 3) as [string, number, number];
      times.set(verb, { calls, microseconds: nanoseconds / 1000 });
    }
    return times;
  }

  synchronize(): void {
    const { handle } = this;
    this.call((addon) => addon.synchronize(handle));
  }

  dispose(): void {
    const handle = this.#handle;
    this.#handle = undefined;
    if (handle !== undefined) this.addon.disposeContext(handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #stage(verb: "collide" | "select" | "rerank", args: check.OperatorArgs<"collide">): void {
    const { handle } = this;
    const plan = this.#plan(args.plan);
    check.checkStage(args);
    const step = this.step(args.step);
    this.call((addon) => addon[verb](handle, plan, args.layer, ...step));
  }

  #page(verb: "encode" | "offload" | "commit", args: check.OperatorArgs<"encode">): void {
    const { handle } = this;
    const cache = this.#cache(args.cache);
    check.checkPage(args);
    this.call((addon) => addon[verb](handle, cache, args.slot, args.pageIndex, args.pageId));
  }

  #cache(cache: Cache): Handle {
    if (!(cache instanceof NativeCache) || cache.owner !== this) refuse("cache", "a cache of this context", cache);
    return cache.handle;
  }

  #plan(plan: Plan): Handle {
    if (!(plan instanceof NativePlan) || plan.owner !== this) refuse("plan", "a plan of this context", plan);
    return plan.handle;
  }
}
