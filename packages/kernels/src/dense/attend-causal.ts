import { InvalidArgumentError } from "@pariskv/quantizer";
import type { Dtype } from "../context.js";
import { checkCount, checkElements, checkMatrix, type Matrix } from "./matrix.js";
import { Widened } from "./widened.js";

/** `tokens` records side by side, `[tokens, 2, headDim]` of the cache's dtype: K, then V of each token. */
export interface KvSpan {
  readonly data: Float32Array | Uint16Array;
  /** In elements. */
  readonly offset: number;
  readonly tokens: number;
}

/** Tokens widened to f32 at a time: shared by all query rows of a block. */
const TILE_TOKENS = 64;
/** Query rows that share a tile. */
const BLOCK_ROWS = 32;

const tile = new Widened();
const logits = new Float64Array(TILE_TOKENS);
const products = new Float64Array(4);
/** Places in the tile of the records that the present query attends. */
const attended = new Int32Array(TILE_TOKENS);
const maxima = new Float64Array(BLOCK_ROWS * 8);
const totals = new Float64Array(BLOCK_ROWS * 8);
let sums = new Float64Array(0);

/**
 * Causal attention of the `queryGroup` query heads that share one KV head. The rows stand at consecutive positions from
 * `firstPosition` on; `spans` hold the records of positions 0 .. firstPosition + rowCount - 1 in order. The row at
 * position p attends positions 0..p with logits <q, k> / sqrt(headDim). A logit that is not finite is excluded; where
 * nothing is left the output is zero. q and out are `[rowCount, queryGroup, headDim] f32`, with head 0 of the group at
 * their offset. The softmax is online over tiles of 64 tokens and computed in float64. Throws InvalidArgumentError when
 * the spans do not hold every position, and for arrays that are too short.
 */
export function attendCausal(args: {
  spans: readonly KvSpan[];
  dtype: Dtype;
  headDim: number;
  queryGroup: number;
  firstPosition: number;
  rowCount: number;
  q: Matrix;
  out: Matrix;
}): void {
  const { spans, dtype, headDim, queryGroup, firstPosition, rowCount, q, out } = args;
  checkCount("headDim", headDim);
  checkCount("rowCount", rowCount);
  checkCount("firstPosition", firstPosition, 0);
  if (!(Number.isInteger(queryGroup) && queryGroup >= 1 && queryGroup <= 8)) {
    throw new InvalidArgumentError({ argument: "queryGroup", expected: "an integer in 1..8", received: queryGroup });
  }
  checkMatrix("q", q, rowCount, queryGroup * headDim);
  checkMatrix("out", out, rowCount, queryGroup * headDim);
  for (const [i, { data, offset, tokens }] of spans.entries()) {
    checkElements(`spans[${i}]`, { data, dtype, offset }, tokens * 2 * headDim);
  }
  const spanTokens = spans.reduce((total, span) => total + span.tokens, 0);
  if (spanTokens < firstPosition + rowCount) {
    throw new InvalidArgumentError({
      argument: "spans",
      expected: `${firstPosition + rowCount} tokens in all`,
      received: spanTokens,
    });
  }
  tile.reserve(TILE_TOKENS * 2 * headDim);
  if (sums.length < BLOCK_ROWS * queryGroup * headDim) sums = new Float64Array(BLOCK_ROWS * queryGroup * headDim);

  for (let first = 0; first < rowCount; first += BLOCK_ROWS) {
    const rows = Math.min(BLOCK_ROWS, rowCount - first);
    maxima.fill(Number.NEGATIVE_INFINITY);
    totals.fill(0);
    sums.fill(0);
    const end = firstPosition + first + rows;
    let position = 0;
    for (const span of spans) {
      for (let token = 0; token < span.tokens && position < end; ) {
        const tokens = Math.min(TILE_TOKENS, span.tokens - token, end - position);
        const from = span.offset + token * 2 * headDim;
        tile.widen({ data: span.data, dtype }, from, tokens * 2 * headDim, 0);
        for (let r = 0; r < rows; r++) {
          const visible = Math.min(tokens, firstPosition + first + r + 1 - position);
          if (visible <= 0) continue;
          for (let head = 0; head < queryGroup; head++) {
            const query = q.offset + (first + r) * q.rowStride + head * headDim;
            attendTile(q.data, query, headDim, visible, r * queryGroup + head);
          }
        }
        token += tokens;
        position += tokens;
      }
    }
    for (let r = 0; r < rows; r++) {
      for (let head = 0; head < queryGroup; head++) {
        const state = r * queryGroup + head;
        const total = totals[state]!;
        const to = out.offset + (first + r) * out.rowStride + head * headDim;
        for (let c = 0; c < headDim; c++) out.data[to + c] = total > 0 ? sums[state * headDim + c]! / total : 0;
      }
    }
  }
}

/** Adds the first `visible` records of the tile to the running softmax number `state`. */
function attendTile(q: Float32Array, query: number, headDim: number, visible: number, state: number): void {
  const count = tileLogits(q, query, headDim, visible);
  let maximum = maxima[state]!;
  for (let i = 0; i < count; i++) maximum = Math.max(maximum, logits[i]!);
  if (maximum === Number.NEGATIVE_INFINITY) return;
  const kept = Math.exp(maxima[state]! - maximum); // 0 at the first tile: exp(-Infinity)
  maxima[state] = maximum;
  let total = totals[state]! * kept;
  for (let i = 0; i < count; i++) {
    const weight = Math.exp(logits[i]! - maximum);
    logits[i] = weight;
    total += weight;
  }
  totals[state] = total;
  addValues(state * headDim, headDim, count, kept);
}

/** Logits of the tile's first `visible` records: the finite ones side by side. Returns how many they are. */
function tileLogits(q: Float32Array, query: number, headDim: number, visible: number): number {
  const recordElements = 2 * headDim;
  const scale = 1 / Math.sqrt(headDim);
  let count = 0;
  for (let token = 0; token < visible; token += 4) {
    const together = Math.min(4, visible - token);
    dots(q, query, token * recordElements, together, headDim);
    for (let i = 0; i < together; i++) {
      const logit = products[i]! * scale;
      if (!Number.isFinite(logit)) continue;
      logits[count] = logit;
      attended[count] = (token + i) * recordElements + headDim;
      count++;
    }
  }
  return count;
}

/** products[i] = q · key of record i, for `count` <= 4 records from element `first` on; the rest repeat the last. */
function dots(q: Float32Array, query: number, first: number, count: number, headDim: number): void {
  const records = tile.f32;
  const key1 = first + Math.min(1, count - 1) * 2 * headDim;
  const key2 = first + Math.min(2, count - 1) * 2 * headDim;
  const key3 = first + Math.min(3, count - 1) * 2 * headDim;
  let sum0 = 0;
  let sum1 = 0;
  let sum2 = 0;
  let sum3 = 0;
  for (let c = 0; c < headDim; c++) {
    const value = q[query + c]!;
    sum0 += value * records[first + c]!;
    sum1 += value * records[key1 + c]!;
    sum2 += value * records[key2 + c]!;
    sum3 += value * records[key3 + c]!;
  }
  products[0] = sum0;
  products[1] = sum1;
  products[2] = sum2;
  products[3] = sum3;
}

/** sums[to ..] = sums * kept + the weighted values of the attended records, four records at a time. */
function addValues(to: number, headDim: number, count: number, kept: number): void {
  const records = tile.f32;
  for (let c = 0; c < headDim; c++) sums[to + c]! *= kept;
  let i = 0;
  for (; i + 3 < count; i += 4) {
    const value0 = attended[i]!;
    const value1 = attended[i + 1]!;
    const value2 = attended[i + 2]!;
    const value3 = attended[i + 3]!;
    const weight0 = logits[i]!;
    const weight1 = logits[i + 1]!;
    const weight2 = logits[i + 2]!;
    const weight3 = logits[i + 3]!;
    for (let c = 0; c < headDim; c++) {
      sums[to + c]! +=
        weight0 * records[value0 + c]! +
        weight1 * records[value1 + c]! +
        weight2 * records[value2 + c]! +
        weight3 * records[value3 + c]!;
    }
  }
  for (; i < count; i++) {
    const value = attended[i]!;
    const weight = logits[i]!;
    for (let c = 0; c < headDim; c++) sums[to + c]! += weight * records[value + c]!;
  }
}
