import { DisposedError } from "@pariskv/quantizer";
import type { Plan, PlanField, PlanParams, Ref } from "../context.js";
import { type PlanFieldLayout, planLayout, rotatedQueries, voteTables } from "../plan-layout.js";
import type { ReferenceCache } from "./reference-cache.js";
import type { ReferenceBuffer, ReferenceMemory } from "./reference-memory.js";

interface TypedArray<T> {
  readonly BYTES_PER_ELEMENT: number;
  subarray(begin: number, end: number): T;
}

/** The workspaces of a plan, all in one buffer. */
export class ReferencePlan implements Plan {
  readonly bytes: number;
  /** Q, rotated queries of a KV head. */
  readonly rotatedQueries: number;
  /** T, vote tables of a KV head. */
  readonly tableCount: number;
  readonly rotated: Float32Array;
  readonly tables: Uint8Array;
  readonly scores: Uint16Array;
  readonly candidates: Uint32Array;
  readonly candidateCount: Int32Array;
  readonly estimates: Float32Array;
  readonly priorities: Float32Array;
  readonly selected: Uint32Array;
  readonly selectedCount: Int32Array;
  readonly stats: Float32Array;

  readonly #fields: Readonly<Record<PlanField, PlanFieldLayout>>;
  readonly #buffer: ReferenceBuffer;
  #disposed = false;

  constructor(
    readonly params: PlanParams,
    readonly cache: ReferenceCache,
    memory: ReferenceMemory,
  ) {
    const { layers, kvHeads, queryGroup, headDim } = cache.params;
    this.rotatedQueries = rotatedQueries(params.group, queryGroup);
    this.tableCount = voteTables(params.group, queryGroup);
    const { fields, bytes } = planLayout({ layers, kvHeads, queryGroup, headDim, ...params });
    this.bytes = bytes;
    this.#fields = fields;
    this.#buffer = memory.allocate(bytes, "device");
    const storage = this.#buffer.requireStorage();
    const view = <T extends TypedArray<T>>(whole: T, name: PlanField): T => {
      const { offsetBytes, bytes: fieldBytes } = fields[name];
      return whole.subarray(
        offsetBytes / whole.BYTES_PER_ELEMENT,
        (offsetBytes + fieldBytes) / whole.BYTES_PER_ELEMENT,
      );
    };
    this.rotated = view(storage.f32, "rotated");
    this.tables = view(storage.u8, "tables");
    this.scores = view(storage.u16, "scores");
    this.candidates = view(storage.u32, "candidates");
    this.candidateCount = view(storage.i32, "candidateCount");
    this.estimates = view(storage.f32, "estimates");
    this.priorities = view(storage.f32, "priorities");
    this.selected = view(storage.u32, "selected");
    this.selectedCount = view(storage.i32, "selectedCount");
    this.stats = view(storage.f32, "stats");
  }

  /** Tokens of a slot's retrieval zone that the workspaces have room for. */
  zoneTokens(slot: number): number {
    return Math.min(Math.max(this.cache.zoneTokens[slot]!, 0), this.params.maxZoneTokens);
  }

  /** Where `candidateCount` and `selectedCount` of a row and KV head lie; times queryGroup, where its `stats` begin. */
  countIndex(layer: number, row: number, head: number): number {
    return (layer * this.params.maxRows + row) * this.cache.params.kvHeads + head;
  }

  field(name: PlanField): Ref {
    this.requireInUse();
    return { buffer: this.#buffer, offsetBytes: this.#fields[name].offsetBytes };
  }

  dispose(): void {
    this.#disposed = true;
    this.#buffer.dispose();
  }

  /** Throws DisposedError after dispose. */
  requireInUse(): void {
    if (this.#disposed) throw new DisposedError({ object: "plan" });
  }
}
