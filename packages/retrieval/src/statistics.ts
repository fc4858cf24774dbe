import { type Context, type DeviceBuffer, type Plan, STATS, STATS_FIELDS } from "@pariskv/kernels";
import { type KvGeometry, recordBytes, type ZoneCounts } from "@pariskv/memory";
import { summaryLayout } from "@pariskv/quantizer";
import { layerMode, layerPolicy, type Mode, type RetrievalPolicy } from "./policy.js";

/** What one layer of one sequence did in a decode step. */
export interface LayerStatistics {
  readonly mode: Mode;
  /** Keys that were reranked, summed over KV heads. */
  readonly candidates: number;
  /** Keys of the retrieval zone that were fetched and attended, summed over KV heads. */
  readonly selected: number;
  /** Bytes of ids, codes and weights that the search read. */
  readonly summaryBytesRead: number;
  /** Bytes of K and V that attention read. */
  readonly recordBytesRead: number;
  /** Share of the attention mass that was attended, estimated (never certified), mean over query heads. 1 when dense. */
  readonly estimatedMass: number;
}

/** What one sequence did in a decode step. */
export interface RowStatistics {
  /** Tokens that the step saw, its own among them. */
  readonly tokens: ZoneCounts;
  readonly layers: readonly LayerStatistics[];
  /** Bytes of K and V that attention read over all layers. */
  readonly recordBytesRead: number;
  /** Bytes of K and V that dense attention would have read. */
  readonly denseBytes: number;
  /** Share of the K and V of the context that was read. */
  readonly readShare: number;
}

/** Tokens and mode of one row of a step. */
export interface RowSeen {
  readonly tokens: ZoneCounts;
  readonly mode: Mode | "policy";
}

/** What {@link StepStatistics} is made of. */
export interface StatisticsSource {
  readonly context: Context;
  readonly geometry: KvGeometry;
  readonly layers: number;
  readonly plan: Plan;
  readonly policy: RetrievalPolicy;
}

/**
 * Counts and masses of the last decode step. Every layer's share is copied aside on the device when the layer is done,
 * because the plan's workspaces are used again by the next layer; nothing is read until {@link StepStatistics.read}.
 */
export class StepStatistics {
  readonly #source: StatisticsSource;
  readonly #rows: number;
  readonly #queryHeads: number;
  /** `[layers, rows, queryHeads, STATS_FIELDS] f32`. */
  readonly #mass: DeviceBuffer;
  /** `[layers, 2, rows, kvHeads] i32`: candidates, then selected keys. */
  readonly #counts: DeviceBuffer;
  #seen: readonly RowSeen[] = [];

  /** Made by `Retriever`. */
  constructor(source: StatisticsSource) {
    const { context, geometry, layers, plan } = source;
    this.#source = source;
    this.#rows = plan.params.maxRows;
    this.#queryHeads = geometry.kvHeads * geometry.queryGroup;
    this.#mass = context.allocate(layers * this.#rows * this.#queryHeads * STATS_FIELDS * 4, "device");
    try {
      this.#counts = context.allocate(layers * 2 * this.#rows * geometry.kvHeads * 4, "device");
    } catch (error) {
      this.#mass.dispose();
      throw error;
    }
  }

  /** Queues the copies of one layer. */
  queue(layer: number, rowCount: number): void {
    const { context, geometry, plan, policy } = this.#source;
    // A layer that is always dense has nothing to tell.
    if (layerPolicy(policy, layer).mode === "dense") return;
    const massBytes = this.#queryHeads * STATS_FIELDS * 4;
    const countBytes = geometry.kvHeads * 4;
    context.copy({
      from: plan.field("stats"),
      to: { buffer: this.#mass, offsetBytes: layer * this.#rows * massBytes },
      bytes: rowCount * massBytes,
    });
    for (const [index, name] of (["candidateCount", "selectedCount"] as const).entries()) {
      context.copy({
        from: plan.field(name),
        to: { buffer: this.#counts, offsetBytes: (layer * 2 + index) * this.#rows * countBytes },
        bytes: rowCount * countBytes,
      });
    }
  }

  /** Remembers what each row of the step saw. */
  close(seen: readonly RowSeen[]): void {
    this.#seen = seen;
  }

  /**
   * The last decode step, one entry for each sequence in the order of `beginStep`; none when it was aborted. Waits for
   * the queue.
   */
  read(): RowStatistics[] {
    const { geometry, layers: layerCount, policy } = this.#source;
    const mass = new Float32Array(this.#mass.bytes / 4);
    const counts = new Int32Array(this.#counts.bytes / 4);
    this.#mass.read(0, mass);
    this.#counts.read(0, counts);
    return this.#seen.map(({ tokens, mode }, row) => {
      const layers = Array.from({ length: layerCount }, (_, layer) => {
        const layerRung = layerMode(policy, layer, tokens.zone, mode);
        if (layerRung === "dense") return this.#dense(tokens);
        return this.#searched(layer, row, tokens, layerRung, mass, counts);
      });
      const recordBytesRead = layers.reduce((sum, layer) => sum + layer.recordBytesRead, 0);
      const allTokens = tokens.sink + tokens.zone + tokens.ring;
      const denseBytes = allTokens * layerCount * geometry.kvHeads * recordBytes(geometry);
      return { tokens, layers, recordBytesRead, denseBytes, readShare: recordBytesRead / denseBytes };
    });
  }

  /** Gives the memory back. */
  dispose(): void {
    this.#mass.dispose();
    this.#counts.dispose();
  }

  #dense({ sink, zone, ring }: ZoneCounts): LayerStatistics {
    const { geometry } = this.#source;
    return {
      mode: "dense",
      candidates: 0,
      selected: zone * geometry.kvHeads,
      summaryBytesRead: 0,
      recordBytesRead: (sink + zone + ring) * geometry.kvHeads * recordBytes(geometry),
      estimatedMass: 1,
    };
  }

  #searched(
    layer: number,
    row: number,
    { sink, zone, ring }: ZoneCounts,
    mode: "scan" | "vote",
    mass: Float32Array,
    counts: Int32Array,
  ): LayerStatistics {
    const { kvHeads, headDim } = this.#source.geometry;
    const sumOf = (index: number) => {
      const begin = ((layer * 2 + index) * this.#rows + row) * kvHeads;
      return counts.subarray(begin, begin + kvHeads).reduce((sum, count) => sum + count, 0);
    };
    const candidates = sumOf(0);
    const selected = sumOf(1);
    const { subspaces, bytesPerKey } = summaryLayout(headDim);
    const idBytes = mode === "vote" ? zone * kvHeads * subspaces : 0;
    const begin = (layer * this.#rows + row) * this.#queryHeads * STATS_FIELDS;
    return {
      mode,
      candidates,
      selected,
      summaryBytesRead: idBytes + candidates * (bytesPerKey - subspaces),
      recordBytesRead: ((sink + ring) * kvHeads + selected) * recordBytes(this.#source.geometry),
      estimatedMass: meanAttendedShare(mass.subarray(begin, begin + this.#queryHeads * STATS_FIELDS)),
    };
  }
}

/** Mean over query heads of the attended share of the mass; `mass` is `[queryHeads, STATS_FIELDS] f32`. */
function meanAttendedShare(mass: Float32Array): number {
  let shares = 0;
  for (let at = 0; at < mass.length; at += STATS_FIELDS) {
    const attended = mass[at + STATS.LSE_ATTENDED] as number;
    // Nothing left out is no mass, even where nothing was attended.
    const left = (logSum: number) => (logSum === Number.NEGATIVE_INFINITY ? 0 : Math.exp(logSum - attended));
    const missed = left(mass[at + STATS.LSE_UNSELECTED] as number) + left(mass[at + STATS.LSE_OTHERS] as number);
    shares += 1 / (1 + missed);
  }
  return shares / (mass.length / STATS_FIELDS);
}
