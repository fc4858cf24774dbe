import type { Group } from "../../src/context.js";
import { recordIndex, type SceneData } from "./scene-data.js";

/**
 * The mathematics of one decode step in float64, written from the specification: no backend and no quantiser function is
 * called. Only bytes that a stage before has produced come in.
 */

/** H(s ∘ x) / sqrt(d), by the definition of the Hadamard matrix: entry (i, j) is -1 to the number of common bits. */
export function rotateExactly(x: ArrayLike<number>, signs: ArrayLike<number>): Float64Array {
  const rotated = new Float64Array(signs.length);
  for (let i = 0; i < rotated.length; i++) {
    let sum = 0;
    for (let j = 0; j < rotated.length; j++) {
      let common = i & j;
      let negative = false;
      while (common !== 0) {
        common &= common - 1;
        negative = !negative;
      }
      const term = signs[j]! * x[j]!;
      sum += negative ? -term : term;
    }
    rotated[i] = sum / Math.sqrt(rotated.length);
  }
  return rotated;
}

/** The calibration of a layer and KV head: mu and D. */
export function calibrationOf(data: SceneData, layer: number, head: number): { mu: Float32Array; scale: Float32Array } {
  const { kvHeads, headDim } = data.options;
  const start = (layer * kvHeads + head) * 2 * headDim;
  const mu = data.calibration.subarray(start, start + headDim);
  return { mu, scale: data.calibration.subarray(start + headDim, start + 2 * headDim) };
}

/** The rotated queries of one KV head from `queries`, `[queryGroup, headDim]`: one for `mean`, else one a query head. */
export function rotatedQueries(data: SceneData, layer: number, head: number, queries: Float32Array): Float64Array[] {
  const { queryGroup, headDim, group } = data.options;
  const { scale } = calibrationOf(data, layer, head);
  const balanced = Array.from({ length: queryGroup }, (_, queryHead) =>
    Float64Array.from({ length: headDim }, (_, j) => scale[j]! * queries[queryHead * headDim + j]!),
  );
  const mean = Float64Array.from(
    { length: headDim },
    (_, j) => balanced.reduce((sum, query) => sum + query[j]!, 0) / queryGroup,
  );
  return (group === "mean" ? [mean] : balanced).map((query) => rotateExactly(query, data.quantizer.signs));
}

/** For each table `[subspaces, 256]`: inner products of centroids with a query, and the largest L1 norm of a block. */
function centroidProducts(
  rotated: readonly Float64Array[],
  group: Group,
): { products: Float64Array; span: number[] }[] {
  const single = rotated.map((query) => {
    const subspaces = query.length / 8;
    const products = new Float64Array(subspaces * 256);
    const span = Array.from({ length: subspaces }, (_, b) =>
      query.subarray(8 * b, 8 * b + 8).reduce((sum, value) => sum + Math.abs(value), 0),
    );
    for (let b = 0; b < subspaces; b++) {
      for (let id = 0; id < 256; id++) {
        for (let j = 0; j < 8; j++) products[b * 256 + id]! += ((id >> j) & 1 ? 1 : -1) * query[8 * b + j]!;
      }
    }
    return { products, span };
  });
  if (group !== "sum") return single;
  const products = new Float64Array(single[0]!.products.length);
  const span = single[0]!.span.map(() => 0);
  for (const query of single) {
    const largest = Math.max(...query.span);
    if (largest === 0) continue;
    for (let i = 0; i < products.length; i++) products[i]! += query.products[i]! / largest;
    for (let b = 0; b < span.length; b++) span[b]! += query.span[b]! / largest;
  }
  return [{ products, span }];
}

/** Graded votes before rounding: a table's vote is the nearest integer. */
export function gradedVotes(rotated: readonly Float64Array[], group: Group): Float64Array[] {
  return centroidProducts(rotated, group).map(({ products, span }) => {
    const largest = Math.max(...span);
    return products.map((product, i) => ((product + span[Math.floor(i / 256)]!) * 63) / (2 * largest));
  });
}

/** Tiered votes, and how close each centroid's product is to its nearest neighbour's in the ranking. */
export function tieredVotes(
  rotated: readonly Float64Array[],
  group: Group,
  idCounts: Uint32Array,
  limits: ArrayLike<number>,
): { votes: Uint8Array; margin: Float64Array }[] {
  return centroidProducts(rotated, group).map(({ products }) => {
    const votes = new Uint8Array(products.length);
    const margin = new Float64Array(products.length).fill(Number.POSITIVE_INFINITY);
    for (let row = 0; row < products.length; row += 256) {
      const order = Array.from({ length: 256 }, (_, id) => id);
      order.sort((a, b) => products[row + b]! - products[row + a]! || a - b);
      let before = 0;
      for (const [rank, id] of order.entries()) {
        votes[row + id] = Array.from(limits).filter((limit) => limit > before).length;
        before += idCounts[row + id]!;
        if (rank === 0) continue;
        const gap = products[row + order[rank - 1]!]! - products[row + id]!;
        margin[row + id] = gap;
        margin[row + order[rank - 1]!] = Math.min(margin[row + order[rank - 1]!]!, gap);
      }
    }
    return { votes, margin };
  });
}

/** The summary planes of one zone: the bytes of `data.summaries` that belong to a slot, layer and KV head. */
export class ZoneBytes {
  readonly #pages: readonly Uint8Array[];
  readonly #headDim: number;

  constructor(data: SceneData, slot: number, layer: number, head: number) {
    this.#headDim = data.options.headDim;
    const headBytes = 512 * 0.75 * this.#headDim;
    const start = (layer * data.options.kvHeads + head) * headBytes;
    this.#pages = data.summaries[slot]!.map((page) => page.subarray(start, start + headBytes));
  }

  id(key: number, subspace: number): number {
    return this.#pages[key >> 9]![subspace * 512 + (key & 511)]!;
  }

  /** Decoded weight: 5 exponent and 3 mantissa bits above 2^-16. */
  weight(key: number, subspace: number): number {
    const subspaces = this.#headDim / 8;
    const byte = this.#pages[key >> 9]![512 * (subspaces + this.#headDim / 2) + (key & 511) * subspaces + subspace]!;
    return byte === 0 ? 0 : 2 ** ((byte >> 3) - 16) * (1 + (byte & 7) / 8);
  }

  /** Sign and level of a coordinate: bit 3 set means not negative. */
  code(key: number, coordinate: number): number {
    const at = 512 * (this.#headDim / 8) + (key & 511) * (this.#headDim / 2) + (coordinate >> 1);
    return (this.#pages[key >> 9]![at]! >> (4 * (coordinate & 1))) & 15;
  }

  /** A key that could be encoded has some coordinate of more than the lowest level. */
  isValid(key: number): boolean {
    for (let j = 0; j < this.#headDim; j++) if (this.code(key, j) !== 0) return true;
    return false;
  }
}

/** The collision score of a key: the largest over the tables, `[tables, subspaces, 256] u8`. */
export function collisionScore(zone: ZoneBytes, key: number, tables: readonly Uint8Array[]): number {
  if (!zone.isValid(key)) return 0xffff;
  return Math.max(
    ...tables.map((table) => {
      let score = 0;
      for (let b = 0; b < table.length / 256; b++) score += table[b * 256 + zone.id(key, b)]!;
      return score;
    }),
  );
}

/** The `count` valid keys of highest score, ties to the smaller index, ascending: by a sort. */
export function bestKeys(scores: ArrayLike<number>, count: number): number[] {
  const order = Array.from({ length: scores.length }, (_, key) => key).filter((key) => scores[key] !== 0xffff);
  order.sort((a, b) => scores[b]! - scores[a]! || a - b);
  return order.slice(0, count).sort((a, b) => a - b);
}

/** The estimate of <k', q'>, and the sum of its terms' magnitudes: what rounding errors are relative to. */
export function estimateOf(
  zone: ZoneBytes,
  key: number,
  rotated: Float64Array,
  centres: ArrayLike<number>,
): { value: number; magnitude: number } {
  let value = 0;
  let magnitude = 0;
  for (let b = 0; b < rotated.length / 8; b++) {
    const weight = zone.weight(key, b);
    for (let j = 8 * b; j < 8 * b + 8; j++) {
      const code = zone.code(key, j);
      const term = weight * (code & 8 ? 1 : -1) * centres[code & 7]! * rotated[j]!;
      value += term;
      magnitude += Math.abs(term);
    }
  }
  return { value, magnitude };
}

/** ln Σ exp, of the finite values only. */
export function logSumExpOf(values: readonly number[]): number {
  const finite = values.filter(Number.isFinite);
  if (finite.length === 0) return Number.NEGATIVE_INFINITY;
  const greatest = finite.reduce((a, b) => Math.max(a, b));
  return greatest + Math.log(finite.reduce((sum, value) => sum + Math.exp(value - greatest), 0));
}

/** One priority a candidate from estimated logits, `[rotated queries][candidates]`. */
export function prioritiesOf(group: Group, estimates: readonly number[][], scale: number): number[] {
  if (estimates.length === 1) return estimates[0]!.slice();
  const logSums = estimates.map((own) => logSumExpOf(own.map((value) => scale * value)));
  return estimates[0]!.map((_, i) => {
    const shares = estimates.map((own, h) => scale * own[i]! - logSums[h]!);
    return group === "sum" ? shares.reduce((sum, share) => sum + Math.exp(share), 0) : Math.max(...shares);
  });
}

/** Softmax attention of one query over the given positions; a key whose logit is not finite is absent. */
export function attentionOver(
  data: SceneData,
  place: { readonly slot: number; readonly layer: number; readonly head: number },
  query: ArrayLike<number>,
  positions: readonly number[],
): { output: Float64Array; logSum: number } {
  const { headDim } = data.options;
  const records = data.records[place.slot]!;
  const at = (position: number) => recordIndex(data, place.slot, place.layer, place.head, position);
  const logits = positions.map((position) => {
    let product = 0;
    for (let j = 0; j < headDim; j++) product += query[j]! * records[at(position) + j]!;
    return product / Math.sqrt(headDim);
  });
  const logSum = logSumExpOf(logits);
  const output = new Float64Array(headDim);
  for (const [i, position] of positions.entries()) {
    if (!Number.isFinite(logits[i]!)) continue;
    const share = Math.exp(logits[i]! - logSum);
    for (let j = 0; j < headDim; j++) output[j]! += share * records[at(position) + headDim + j]!;
  }
  return { output, logSum };
}

/** The log-sum-exp of keys known only by their scores: a line through (score, logit) of the candidates. */
export function othersLogSum(
  scores: ArrayLike<number>,
  candidates: readonly number[],
  logits: readonly number[],
): number {
  const known = new Set(candidates);
  const others = Array.from({ length: scores.length }, (_, key) => key).filter(
    (key) => !known.has(key) && scores[key] !== 0xffff,
  );
  if (others.length === 0) return Number.NEGATIVE_INFINITY;
  const x = candidates.map((key) => scores[key]!);
  const meanX = x.reduce((a, b) => a + b, 0) / x.length;
  const meanY = logits.reduce((a, b) => a + b, 0) / x.length;
  const sxx = x.reduce((sum, value) => sum + (value - meanX) ** 2, 0);
  const sxy = x.reduce((sum, value, i) => sum + (value - meanX) * (logits[i]! - meanY), 0);
  const slope = x.length >= 8 && sxx > 0 ? sxy / sxx : 0;
  const residuals = logits.map((logit, i) => logit - meanY - slope * (x[i]! - meanX));
  const variance = residuals.reduce((sum, value) => sum + value * value, 0) / x.length;
  return logSumExpOf(others.map((key) => meanY + slope * (scores[key]! - meanX) + variance / 2));
}
