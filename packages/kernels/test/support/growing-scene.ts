import { PAGE_TOKENS } from "@pariskv/quantizer";
import type { Context, DeviceBuffer, Rows, Tape } from "../../src/context.js";
import { type RowPlace, Scene } from "./scene.js";
import { createSceneData, recordIndex, type SceneData, type SceneOptions } from "./scene-data.js";

/** What one decode step of all layers gave. */
export interface GrowthStep {
  readonly rows: readonly RowPlace[];
  /** For each layer `[slots, queryHeads, headDim] f32`. */
  readonly out: readonly Float32Array[];
  /** For each layer, slot and KV head: the selected keys, ascending. */
  readonly selected: readonly (readonly (readonly number[])[])[];
}

/** Sequences that grow token by token, as a memory manager would have it: a full ring gives its oldest page away. */
export class GrowingScene {
  readonly scene: Scene;
  /** Tokens that each slot holds. */
  readonly tokens: number[];
  readonly #sequenceTokens: readonly number[];
  readonly #options: SceneOptions;
  readonly #table: DeviceBuffer;
  readonly #q: readonly Rows[];
  readonly #k: readonly Rows[];
  readonly #v: readonly Rows[];
  readonly #out: readonly Rows[];
  readonly #selected: readonly DeviceBuffer[];
  #tape: Tape | undefined;

  /** `sequenceTokens`: how long each slot may become. */
  constructor(context: Context, sequenceTokens: readonly number[], options: Omit<SceneOptions, "sequences">) {
    this.#sequenceTokens = sequenceTokens;
    const empty = sequenceTokens.map(() => ({ zoneTokens: 0, ringUsed: 0 }));
    this.#options = { ...options, sequences: empty };
    this.scene = new Scene(context, this.#options, { maxZoneTokens: 2 * PAGE_TOKENS });
    this.scene.data = this.#dataWith(sequenceTokens.map(() => 0));
    this.scene.setMode(this.scene.data.options.mode);
    this.tokens = sequenceTokens.map(() => 0);
    const { layers, kvHeads, headDim } = this.scene.data.options;
    const slots = sequenceTokens.length;
    const perLayer = (width: number): Rows[] =>
      Array.from({ length: layers }, () => ({
        buffer: context.allocate(4 * slots * width, "device"),
        rowStride: width,
      }));
    this.#table = context.allocate(8 * slots, "device");
    this.#k = perLayer(kvHeads * headDim);
    this.#v = perLayer(kvHeads * headDim);
    this.#out = perLayer(this.scene.queryWidth);
    const rows = sequenceTokens.map((_, slot) => ({ slot, position: 0 }));
    this.#q = Array.from({ length: layers }, (_, layer) => this.scene.queries(layer, rows));
    const { maxTopK } = this.scene.plan.params;
    this.#selected = perLayer(kvHeads * maxTopK).map(({ buffer }) => buffer);
  }

  /** Tokens of a slot that are in its retrieval zone. */
  zoneTokens(slot: number): number {
    return this.scene.data.options.sequences[slot]!.zoneTokens;
  }

  /** Appends tokens without decoding until slot `slot` holds `tokens` of them. */
  appendUntil(slot: number, tokens: number): void {
    const { layers, kvHeads, headDim, sinkTokens, ringTokens } = this.scene.data.options;
    while (this.tokens[slot]! < tokens) {
      this.#flushWhenFull(slot);
      const first = this.tokens[slot]!;
      const end = Math.min(tokens, sinkTokens + this.zoneTokens(slot) + ringTokens);
      const rows = Array.from({ length: end - first }, (_, i) => ({ slot, position: first + i }));
      for (let layer = 0; layer < layers; layer++) {
        const rowsOf = (part: 0 | 1): Rows => {
          const values = new Float32Array(rows.length * kvHeads * headDim);
          for (const [row, place] of rows.entries())
            values.set(this.#values(layer, place, part), row * kvHeads * headDim);
          const buffer = this.scene.context.allocate(values.byteLength, "device");
          buffer.write(0, values);
          return { buffer, rowStride: kvHeads * headDim };
        };
        const step = this.scene.step(rows);
        this.scene.context.append({ cache: this.scene.cache, layer, step, k: rowsOf(0), v: rowsOf(1) });
      }
      this.tokens[slot] = end;
    }
  }

  /** Decodes one token of every slot: all operators at once, or from the tape that the first such call records. */
  async decode(how: "immediate" | "tape" | "tape in the background"): Promise<GrowthStep> {
    const rows = this.tokens.map((position, slot) => ({ slot, position }));
    const { layers, kvHeads } = this.scene.data.options;
    for (const { slot } of rows) this.#flushWhenFull(slot);
    this.#table.write(0, Int32Array.from(rows.flatMap(({ slot, position }) => [slot, position])));
    for (let layer = 0; layer < layers; layer++) {
      for (const [row, place] of rows.entries()) {
        const { buffer, rowStride } = this.#k[layer]!;
        buffer.write(4 * row * rowStride, this.#values(layer, place, 0));
        this.#v[layer]!.buffer.write(4 * row * rowStride, this.#values(layer, place, 1));
      }
    }
    if (how === "immediate") this.#queueStep();
    else {
      this.#tape ??= this.scene.context.record(() => this.#queueStep());
      if (how === "tape") this.#tape.run();
      else await this.#tape.runAsync();
    }
    for (const { slot, position } of rows) this.tokens[slot] = position + 1;
    const { maxTopK } = this.scene.plan.params;
    const entries = rows.length * kvHeads;
    const length = rows.length * this.scene.queryWidth;
    const selectedCounts = this.scene.readField("selectedCount", new Int32Array(layers * entries));
    return {
      rows,
      out: this.#out.map(({ buffer }) => this.scene.read(buffer, new Float32Array(length))),
      selected: this.#selected.map((buffer, layer) => {
        const keys = this.scene.read(buffer, new Uint32Array(entries * maxTopK));
        const counts = selectedCounts.subarray(layer * entries, (layer + 1) * entries);
        return Array.from(counts, (count, entry) =>
          Array.from(keys.subarray(entry * maxTopK, entry * maxTopK + count)),
        );
      }),
    };
  }

  #queueStep(): void {
    const { context, cache, plan } = this.scene;
    const { layers, kvHeads } = this.scene.data.options;
    const step = { table: { buffer: this.#table }, rowCount: this.tokens.length };
    for (let layer = 0; layer < layers; layer++) {
      const q = this.#q[layer]!;
      context.append({ cache, layer, step, k: this.#k[layer]!, v: this.#v[layer]! });
      context.probe({ plan, layer, step, q });
      context.collide({ plan, layer, step });
      context.select({ plan, layer, step });
      context.rerank({ plan, layer, step });
      context.attend({ plan, layer, step, q, out: this.#out[layer]! });
      // The layers share the workspaces: what each selected is kept for the oracle.
      const entries = step.rowCount * kvHeads;
      const selectedBytes = 4 * entries * plan.params.maxTopK;
      context.copy({ from: plan.field("selected"), to: { buffer: this.#selected[layer]! }, bytes: selectedBytes });
    }
  }

  #flushWhenFull(slot: number): void {
    const { sinkTokens, ringTokens, mode } = this.scene.data.options;
    const zone = this.zoneTokens(slot);
    if (this.tokens[slot]! - sinkTokens - zone < ringTokens) return;
    const pageIndex = zone / PAGE_TOKENS;
    const page = { cache: this.scene.cache, slot, pageIndex, pageId: this.scene.pageId(slot, pageIndex) };
    this.scene.context.encode(page);
    this.scene.context.offload(page);
    this.scene.context.commit(page);
    const zones = this.tokens.map((_, other) => this.zoneTokens(other) + (other === slot ? PAGE_TOKENS : 0));
    this.scene.data = this.#dataWith(zones);
    this.scene.setMode(mode);
  }

  #dataWith(zones: readonly number[]): SceneData {
    const { sinkTokens } = createSceneData(this.#options).options;
    const sequences = this.#sequenceTokens.map((tokens, slot) => ({
      zoneTokens: zones[slot]!,
      ringUsed: tokens - sinkTokens - zones[slot]!,
    }));
    return createSceneData({ ...this.#options, sequences });
  }

  /** K (part 0) or V (part 1) of one token, `[kvHeads, headDim] f32`. */
  #values(layer: number, { slot, position }: RowPlace, part: 0 | 1): Float32Array {
    const { kvHeads, headDim } = this.scene.data.options;
    const values = new Float32Array(kvHeads * headDim);
    for (let head = 0; head < kvHeads; head++) {
      const from = recordIndex(this.scene.data, slot, layer, head, position) + part * headDim;
      values.set(this.scene.data.records[slot]!.subarray(from, from + headDim), head * headDim);
    }
    return values;
  }
}
