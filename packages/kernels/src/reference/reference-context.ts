import type { Cache, CacheParams, Context, MemoryKind, Plan, PlanParams, Tape, VerbTime } from "../context.js";
import { checkAllocation, checkCacheParams, checkMemoryKind, checkPlanParams, refuse } from "../validate.js";
import * as check from "../validate-operators.js";
import { ReferenceCache } from "./reference-cache.js";
import { ReferenceDense } from "./reference-dense.js";
import { type ReferenceBuffer, ReferenceMemory } from "./reference-memory.js";
import { ReferencePlan } from "./reference-plan.js";
import { ReferenceQueue } from "./reference-queue.js";
import { append } from "./stages/append.js";
import { attend } from "./stages/attend.js";
import { attendCausal } from "./stages/attend-causal.js";
import { collide } from "./stages/collide.js";
import { commit } from "./stages/commit.js";
import { encode } from "./stages/encode.js";
import { offload } from "./stages/offload.js";
import { probe } from "./stages/probe.js";
import { rerank } from "./stages/rerank.js";
import { select } from "./stages/select.js";
import { type StepView, viewRows, viewStep } from "./views.js";

/**
 * Makes the backend in plain TypeScript: the oracle of the others, and the engine of machines without them. It calls the
 * functions of `@pariskv/quantizer` and `@pariskv/kernels/dense` on ArrayBuffers, on the calling thread.
 */
export function createReferenceContext(): Context {
  return new ReferenceContext();
}

class ReferenceContext extends ReferenceDense implements Context {
  readonly device = "reference";
  readonly detail = "plain TypeScript, 1 thread";
  protected readonly memory = new ReferenceMemory();
  protected readonly queue = new ReferenceQueue();

  availableBytes(kind: MemoryKind): number {
    this.queue.requireOpen();
    checkMemoryKind(kind);
    return this.memory.availableBytes;
  }

  allocate(bytes: number, kind: MemoryKind): ReferenceBuffer {
    this.queue.requireOpen();
    checkAllocation(bytes, kind);
    return this.memory.allocate(bytes, kind);
  }

  copy(args: check.OperatorArgs<"copy">): void {
    check.checkCopy(args);
    const from = this.memory.resolve("from", args.from);
    const to = this.memory.resolve("to", args.to);
    const source = from.storage.u8.subarray(from.offsetBytes, from.offsetBytes + args.bytes);
    this.queue.submit("copy", () => to.storage.u8.set(source, to.offsetBytes));
  }

  createCache(params: CacheParams): Cache {
    this.queue.requireOpen();
    checkCacheParams(params);
    return new ReferenceCache(params, this.memory);
  }

  createPlan(params: PlanParams): Plan {
    this.queue.requireOpen();
    const cache = this.#cache(params.cache);
    checkPlanParams(params);
    return new ReferencePlan(params, cache, this.memory);
  }

  append(args: check.OperatorArgs<"append">): void {
    const cache = this.#cache(args.cache);
    check.checkAppend(args);
    const { layer } = args;
    const step = viewStep(this.memory, args.step);
    const k = viewRows(this.memory, "k", args.k);
    const v = viewRows(this.memory, "v", args.v);
    this.queue.submit("append", () => append(cache, layer, step, k, v));
  }

  probe(args: check.OperatorArgs<"probe">): void {
    const plan = this.#plan(args.plan);
    check.checkProbe(args);
    const { layer } = args;
    const step = viewStep(this.memory, args.step);
    const q = viewRows(this.memory, "q", args.q);
    this.queue.submit("probe", () => probe(plan, layer, step, q));
  }

  collide(args: check.OperatorArgs<"collide">): void {
    this.#stage("collide", args, collide);
  }

  select(args: check.OperatorArgs<"select">): void {
    this.#stage("select", args, select);
  }

  rerank(args: check.OperatorArgs<"rerank">): void {
    this.#stage("rerank", args, rerank);
  }

  attend(args: check.OperatorArgs<"attend">): void {
    const plan = this.#plan(args.plan);
    check.checkAttend(args);
    const { layer } = args;
    const step = viewStep(this.memory, args.step);
    const q = viewRows(this.memory, "q", args.q);
    const out = viewRows(this.memory, "out", args.out);
    this.queue.submit("attend", () => attend(plan, layer, step, q, out));
  }

  attendCausal(args: check.OperatorArgs<"attendCausal">): void {
    const cache = this.#cache(args.cache);
    check.checkAttendCausal(args);
    const { layer, firstRow, rowCount } = args;
    const step = viewStep(this.memory, args.step);
    const q = viewRows(this.memory, "q", args.q);
    const out = viewRows(this.memory, "out", args.out);
    this.queue.submit("attendCausal", () => attendCausal(cache, layer, step, firstRow, rowCount, q, out));
  }

  encode(args: check.OperatorArgs<"encode">): void {
    this.#page("encode", args, encode);
  }

  offload(args: check.OperatorArgs<"offload">): void {
    this.#page("offload", args, offload);
  }

  commit(args: check.OperatorArgs<"commit">): void {
    this.#page("commit", args, commit);
  }

  record(body: () => void): Tape {
    return this.queue.record(body);
  }

  takeTimes(): Map<string, VerbTime> {
    return this.queue.takeTimes();
  }

  synchronize(): void {
    this.queue.requireOpen();
  }

  dispose(): void {
    this.queue.close();
    this.memory.releaseAll();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #stage(
    verb: "collide" | "select" | "rerank",
    args: check.OperatorArgs<"collide">,
    run: (plan: ReferencePlan, layer: number, step: StepView) => void,
  ): void {
    const plan = this.#plan(args.plan);
    check.checkStage(args);
    const { layer } = args;
    const step = viewStep(this.memory, args.step);
    this.queue.submit(verb, () => run(plan, layer, step));
  }

  #page(
    verb: "encode" | "offload" | "commit",
    args: check.OperatorArgs<"encode">,
    run: (cache: ReferenceCache, slot: number, pageIndex: number, pageId: number) => void,
  ): void {
    const cache = this.#cache(args.cache);
    check.checkPage(args);
    const { slot, pageIndex, pageId } = args;
    this.queue.submit(verb, () => run(cache, slot, pageIndex, pageId));
  }

  #cache(cache: Cache): ReferenceCache {
    if (!(cache instanceof ReferenceCache) || cache.memory !== this.memory) {
      refuse("cache", "a cache of this context", cache);
    }
    cache.requireInUse();
    return cache;
  }

  #plan(plan: Plan): ReferencePlan {
    if (!(plan instanceof ReferencePlan) || plan.cache.memory !== this.memory) {
      refuse("plan", "a plan of this context", plan);
    }
    plan.requireInUse();
    return plan;
  }
}
