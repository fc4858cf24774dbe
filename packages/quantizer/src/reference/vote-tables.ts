import { CENTROIDS, MAX_VOTE, SUBSPACE_DIM } from "../spec.js";

/** Sortable keys are below 2^40: 32 bits of order, 8 bits of centroid id. */
const ID_RANGE = 256;

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/**
 * Writes graded vote tables `[tables, subspaces, CENTROIDS] u8` for rotated queries `[rotatedCount, headDim] f32`: one a
 * query, or a single one of all queries together when `combined`.
 *
 * A vote is the inner product of centroid and query, shifted to be positive and scaled to 0..MAX_VOTE with one scale for
 * all subspaces, so that a collision score is the one-bit estimate of the inner product up to an affine map. A query with
 * no usable scale (zero, not finite) votes for nothing.
 */
export function gradedTables(
  rotated: Float32Array,
  rotatedCount: number,
  subspaces: number,
  combined: boolean,
  tables: Uint8Array,
): void {
  const products = new Float32Array(subspaces * CENTROIDS);
  const spans = new Float32Array(subspaces);
  for (let table = 0; table < (combined ? 1 : rotatedCount); table++) {
    if (combined) combinedProducts(rotated, rotatedCount, subspaces, products, spans);
    else centroidProducts(rotated, table, subspaces, products, spans);
    gradeProducts(products, spans, tables, table * subspaces * CENTROIDS);
  }
}

/**
 * Writes tiered vote tables `[tables, subspaces, CENTROIDS] u8` as the paper does: one a rotated query, or a single one of
 * all queries together when `combined`.
 *
 * In each subspace the centroids are ranked by inner product, ties to the smaller id; a centroid gets one vote for each of
 * `tierLimits`, `[6] u32`, that exceeds the number of keys ranked ahead of it by `idCounts`, `[subspaces, CENTROIDS] u32`.
 * A query that is zero or not finite votes for nothing.
 */
export function tieredTables(
  rotated: Float32Array,
  rotatedCount: number,
  subspaces: number,
  combined: boolean,
  idCounts: Uint32Array,
  tierLimits: Uint32Array,
  tables: Uint8Array,
): void {
  const products = new Float32Array(subspaces * CENTROIDS);
  const spans = new Float32Array(subspaces);
  const ranking = new Float64Array(CENTROIDS);
  for (let table = 0; table < (combined ? 1 : rotatedCount); table++) {
    if (combined) combinedProducts(rotated, rotatedCount, subspaces, products, spans);
    else centroidProducts(rotated, table, subspaces, products, spans);
    const start = table * subspaces * CENTROIDS;
    const span = largest(spans);
    if (!(span > 0 && span < Number.POSITIVE_INFINITY)) {
      tables.fill(0, start, start + subspaces * CENTROIDS);
      continue;
    }
    for (let b = 0; b < subspaces; b++) {
      const row = b * CENTROIDS;
      rankCentroids(products, row, ranking);
      let keysAhead = 0;
      for (let rank = 0; rank < CENTROIDS; rank++) {
        const id = ID_RANGE - 1 - (ranking[CENTROIDS - 1 - rank]! % ID_RANGE);
        let votes = 0;
        for (const limit of tierLimits) if (limit > keysAhead) votes += 1;
        tables[start + row + id] = votes;
        keysAhead += idCounts[row + id]!;
      }
    }
  }
}

/**
 * Inner products of every sign centroid (of coordinates ±1) with each block of one rotated query, and the L1 norms of
 * the blocks, which bound them; summed coordinate by coordinate in f32.
 */
function centroidProducts(
  rotated: Float32Array,
  query: number,
  subspaces: number,
  products: Float32Array,
  spans: Float32Array,
): void {
  for (let b = 0; b < subspaces; b++) {
    const block = (query * subspaces + b) * SUBSPACE_DIM;
    const row = b * CENTROIDS;
    let span = 0;
    products[row] = 0;
    for (let j = 0; j < SUBSPACE_DIM; j++) {
      const x = rotated[block + j]!;
      span = Math.fround(span + Math.abs(x));
      // Doubling shares the partial sums of common low bits: the same additions in the same order, a quarter as many.
      const half = 1 << j;
      for (let id = 0; id < half; id++) {
        const partial = products[row + id]!;
        products[row + id + half] = partial + x;
        products[row + id] = partial - x;
      }
    }
    spans[b] = span;
  }
}

/** The products and spans of all queries together, each query divided by its largest span so that none drowns another. */
function combinedProducts(
  rotated: Float32Array,
  rotatedCount: number,
  subspaces: number,
  products: Float32Array,
  spans: Float32Array,
): void {
  const ownProducts = new Float32Array(products.length);
  const ownSpans = new Float32Array(spans.length);
  products.fill(0);
  spans.fill(0);
  for (let query = 0; query < rotatedCount; query++) {
    centroidProducts(rotated, query, subspaces, ownProducts, ownSpans);
    const span = largest(ownSpans);
    if (!(span > 0 && span < Number.POSITIVE_INFINITY)) continue;
    for (let i = 0; i < products.length; i++) {
      products[i] = products[i]! + Math.fround(ownProducts[i]! / span);
    }
    for (let b = 0; b < subspaces; b++) {
      spans[b] = spans[b]! + Math.fround(ownSpans[b]! / span);
    }
  }
}

/** Scales the products of one table to votes: floor(((product + span) · scale) + 0.5), each step an f32 operation. */
function gradeProducts(products: Float32Array, spans: Float32Array, tables: Uint8Array, tableOffset: number): void {
  const scale = Math.fround(MAX_VOTE / Math.fround(2 * largest(spans)));
  if (!(scale > 0 && scale < Number.POSITIVE_INFINITY)) {
    tables.fill(0, tableOffset, tableOffset + products.length);
    return;
  }
  for (let b = 0; b < spans.length; b++) {
    const span = spans[b]!;
    for (let i = b * CENTROIDS; i < (b + 1) * CENTROIDS; i++) {
      const shifted = Math.fround(products[i]! + span);
      // 0..MAX_VOTE: |product| <= span holds in f32 too, since both add in the same order and rounding is monotone.
      tables[tableOffset + i] = Math.floor(Math.fround(Math.fround(shifted * scale) + 0.5));
    }
  }
}

/** The largest span; NaN when any is NaN. */
function largest(spans: Float32Array): number {
  let result = 0;
  for (const span of spans) result = Math.max(result, span);
  return result;
}

/**
 * Fills `ranking`, `[CENTROIDS] f64`, with keys that ascend from the worst centroid to the best: the product as an
 * order-preserving 32-bit integer, then the id reversed, so that of equal products the smaller id ranks higher.
 */
function rankCentroids(products: Float32Array, row: number, ranking: Float64Array): void {
  for (let id = 0; id < CENTROIDS; id++) {
    float[0] = products[row + id]!; // never -0, since each product is a sum that starts at 0: equal products, equal bits
    const raw = bits[0]!;
    const ordered = raw >= 0x80000000 ? 0xffffffff - raw : raw + 0x80000000;
    ranking[id] = ordered * ID_RANGE + (ID_RANGE - 1 - id);
  }
  ranking.sort();
}
