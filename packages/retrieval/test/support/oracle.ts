import type { Group, Votes } from "@pariskv/kernels";
import type { ZoneShape } from "@pariskv/memory";
import { createQuantizer, type KeySummaries, retrieve, summarizeKeys } from "@pariskv/quantizer";
import type { TokenStream } from "./token-stream.js";

/** The rung that one layer takes, in numbers. */
export type Rung =
  | { readonly mode: "dense" }
  | { readonly mode: "scan" | "vote"; readonly topK: number; readonly candidates: number };

/** One decode step of one layer as the oracle computes it. */
export interface Expected {
  /** `[queryHeads, headDim]`. */
  readonly output: Float64Array;
  /** Share of each query head's mass that was attended. */
  readonly mass: Float64Array;
  /** Candidates and selected keys, summed over KV heads. */
  readonly candidates: number;
  readonly selected: number;
}

/** Committed tokens of a sequence of `tokens`: the oldest 512 leave the ring whenever it holds 512 + localTokens. */
export function zoneTokensOf({ sinkTokens, localTokens }: ZoneShape, tokens: number): number {
  let ring = Math.max(0, tokens - sinkTokens);
  let zone = 0;
  while (ring >= localTokens + 512) {
    ring -= 512;
    zone += 512;
  }
  return zone;
}

/**
 * Whole decode steps in float64: attention over sink, ring and the keys that the quantiser's `retrieve` selects, or over
 * everything. It knows positions, no pages, windows or buffers.
 */
export class Oracle {
  readonly #summaries = new Map<string, KeySummaries>();

  constructor(
    readonly stream: TokenStream,
    readonly zones: ZoneShape,
    readonly votes: Votes,
    readonly group: Group,
  ) {}

  /** The step at `position`, which sees positions 0 to itself. */
  decode(layer: number, position: number, rung: Rung): Expected {
    const { kvHeads, queryHeads, headDim } = this.stream.shape;
    const { sinkTokens } = this.zones;
    const zone = zoneTokensOf(this.zones, position);
    const everything = Array.from({ length: position + 1 }, (_, index) => index);
    const output = new Float64Array(queryHeads * headDim);
    const mass = new Float64Array(queryHeads);
    let candidates = 0;
    let selected = 0;
    for (let head = 0; head < kvHeads; head++) {
      let attended = everything;
      if (rung.mode === "dense") selected += zone;
      else {
        const found = this.#retrieve(layer, head, position, zone, rung);
        candidates += found.candidates.length;
        selected += found.selected.length;
        const kept = new Set(Array.from(found.selected, (token) => sinkTokens + token));
        attended = everything.filter((at) => at < sinkTokens || at >= sinkTokens + zone || kept.has(at));
      }
      for (let query = 0; query < queryHeads / kvHeads; query++) {
        const queryHead = (head * queryHeads) / kvHeads + query;
        const all = this.#attend(layer, head, queryHead, position, everything);
        const some = this.#attend(layer, head, queryHead, position, attended);
        output.set(some.output, queryHead * headDim);
        mass[queryHead] = some.weight / all.weight;
      }
    }
    return { output, mass, candidates, selected };
  }

  #retrieve(layer: number, head: number, position: number, zone: number, rung: Exclude<Rung, { mode: "dense" }>) {
    const { kvHeads, queryHeads, headDim } = this.stream.shape;
    const groupHeads = queryHeads / kvHeads;
    const firstQuery = (position * queryHeads + head * groupHeads) * headDim;
    return retrieve({
      summaries: this.#summarize(layer, head, zone),
      // The attention of the quantiser is not used: this oracle has its own.
      records: new Float32Array(zone * 2 * headDim),
      queries: (this.stream.q[layer] as Float32Array).subarray(firstQuery, firstQuery + groupHeads * headDim),
      groupHeads,
      votes: this.votes,
      group: this.group,
      retrievalK: rung.topK,
      // ceil(share · zone) is the number of candidates.
      candidateShare: rung.mode === "scan" ? 1 : (rung.candidates - 0.5) / zone,
    });
  }

  #summarize(layer: number, head: number, zone: number): KeySummaries {
    const name = `${layer}/${head}/${zone}`;
    const known = this.#summaries.get(name);
    if (known) return known;
    const { headDim } = this.stream.shape;
    const keys = new Float32Array(zone * headDim);
    for (let token = 0; token < zone; token++) {
      keys.set(this.#row("k", layer, head, this.zones.sinkTokens + token), token * headDim);
    }
    const summaries = summarizeKeys({ quantizer: createQuantizer({ headDim }), keys, tokens: zone });
    this.#summaries.set(name, summaries);
    return summaries;
  }

  #attend(layer: number, head: number, queryHead: number, position: number, positions: readonly number[]) {
    const { queryHeads, headDim } = this.stream.shape;
    const firstQuery = (position * queryHeads + queryHead) * headDim;
    const query = (this.stream.q[layer] as Float32Array).subarray(firstQuery, firstQuery + headDim);
    const output = new Float64Array(headDim);
    let weight = 0;
    for (const at of positions) {
      const key = this.#row("k", layer, head, at);
      let logit = 0;
      for (let j = 0; j < headDim; j++) logit += (query[j] as number) * (key[j] as number);
      // Logits of this size need no shift in float64.
      const share = Math.exp(logit / Math.sqrt(headDim));
      const value = this.#row("v", layer, head, at);
      for (let j = 0; j < headDim; j++) output[j] = (output[j] as number) + share * (value[j] as number);
      weight += share;
    }
    return { output: output.map((sum) => sum / weight), weight };
  }

  #row(name: "k" | "v", layer: number, head: number, position: number): Float32Array {
    const { kvHeads, headDim } = this.stream.shape;
    const begin = (position * kvHeads + head) * headDim;
    return (this.stream[name][layer] as Float32Array).subarray(begin, begin + headDim);
  }
}
