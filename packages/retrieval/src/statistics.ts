import { type Plan, type PlanField, STATS, STATS_FIELDS } from "@pariskv/kernels";
import { type KvGeometry, recordBytes, type ZoneCounts } from "@pariskv/memory";
import { summaryLayout } from "@pariskv/quantizer";
import { layerMode, type Mode, type RetrievalPolicy } from "./policy.js";

/** What one layer of one sequence did in a decode step. */
export interface LayerStatistics {
  readonly mode: Mode;
  /** Keys that were reranked, summed over KV heads. */
  readonly candidates: number;
  /** Keys of the retrieval zone that were fetched and attended, summed over KV heads. */
  readonly selected: number;
  /** Of those, how many lay in the hot set and did not come from host memory, summed over KV heads. */
  readonly hotHits: number;
  /** Bytes of ids, codes and weights that the search read. */
  readonly summaryBytesRead: number;
  /** Bytes of K and V that attention read. */
  readonly recordBytesRead: number;
  /**
   * Share of the attention mass that was attended, estimated (never certified), mean over query heads. 1 when dense;
   * null where the retriever was not asked to estimate it.
   */
  readonly estimatedMass: number | null;
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

/** The workspaces of a step: counts `[layers, rows, kvHeads]`, masses `[layers, rows, queryHeads, STATS_FIELDS]`. */
interface StepReading {
  readonly candidates: Int32Array;
  readonly selected: Int32Array;
  readonly hotHits: Int32Array;
  readonly mass: Float32Array | undefined;
}

/** What {@link StepStatistics} is made of. */
export interface StatisticsSource {
  readonly geometry: KvGeometry;
  readonly layers: number;
  readonly plan: Plan;
  readonly policy: RetrievalPolicy;
}

/**
 * Counts and masses of the last decode step. The plan keeps them for every layer; nothing is read until
 * {@link StepStatistics.read}.
 */
export class StepStatistics {
  readonly #source: StatisticsSource;
  readonly #rows: number;
  readonly #queryHeads: number;
  #seen: readonly RowSeen[] = [];

  /** Made by `Retriever`. */
  constructor(source: StatisticsSource) {
    this.#source = source;
    this.#rows = source.plan.params.maxRows;
    this.#queryHeads = source.geometry.kvHeads * source.geometry.queryGroup;
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
    const { geometry, layers: layerCount, plan, policy } = this.#source;
    const heads = layerCount * this.#rows * geometry.kvHeads;
    const candidates = this.#field("candidateCount", new Int32Array(heads));
    const selected = this.#field("selectedCount", new Int32Array(heads));
    const hotHits = this.#field("hotHits", new Int32Array(heads));
    const mass = plan.params.estimateMass
      ? this.#field("stats", new Float32Array(heads * geometry.queryGroup * STATS_FIELDS))
      : undefined;
    return this.#seen.map(({ tokens, mode }, row) => {
      const layers = Array.from({ length: layerCount }, (_, layer) => {
        const layerRung = layerMode(policy, layer, tokens.zone, mode);
        if (layerRung === "dense") return this.#dense(tokens);
        return this.#searched(layer * this.#rows + row, tokens, layerRung, { candidates, selected, hotHits, mass });
      });
      const recordBytesRead = layers.reduce((sum, layer) => sum + layer.recordBytesRead, 0);
      const allTokens = tokens.sink + tokens.zone + tokens.ring;
      const denseBytes = allTokens * layerCount * geometry.kvHeads * recordBytes(geometry);
      return { tokens, layers, recordBytesRead, denseBytes, readShare: recordBytesRead / denseBytes };
    });
  }

  #field<T extends ArrayBufferView>(name: PlanField, into: T): T {
    const { buffer, offsetBytes = 0 } = this.#source.plan.field(name);
    buffer.read(offsetBytes, into);
    return into;
  }

  #dense({ sink, zone, ring }: ZoneCounts): LayerStatistics {
    const { geometry } = this.#source;
    return {
      mode: "dense",
      candidates: 0,
      selected: zone * geometry.kvHeads,
      hotHits: 0,
      summaryBytesRead: 0,
      recordBytesRead: (sink + zone + ring) * geometry.kvHeads * recordBytes(geometry),
      estimatedMass: 1,
    };
  }

  /** Entry `entry` of `[layers, rows]`. */
  #searched(
    entry: number,
    { sink, zone, ring }: ZoneCounts,
    mode: "scan" | "vote",
    step: StepReading,
  ): LayerStatistics {
    const { kvHeads, headDim } = this.#source.geometry;
    const sumOf = (counts: Int32Array) =>
      counts.subarray(entry * kvHeads, (entry + 1) * kvHeads).reduce((sum, count) => sum + count, 0);
    const candidates = sumOf(step.candidates);
    const selected = sumOf(step.selected);
    const { subspaces, bytesPerKey } = summaryLayout(headDim);
    const idBytes = mode === "vote" ? zone * kvHeads * subspaces : 0;
    const massFields = this.#queryHeads * STATS_FIELDS;
    const mass = step.mass?.subarray(entry * massFields, (entry + 1) * massFields);
    return {
      mode,
      candidates,
      selected,
      hotHits: sumOf(step.hotHits),
      summaryBytesRead: idBytes + candidates * (bytesPerKey - subspaces),
      recordBytesRead: ((sink + ring) * kvHeads + selected) * recordBytes(this.#source.geometry),
      estimatedMass: mass ? meanAttendedShare(mass) : null,
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
