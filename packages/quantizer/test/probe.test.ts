import { describe, expect, it } from "vitest";
import {
  type Calibration,
  CENTROIDS,
  createQuantizer,
  type GroupPolicy,
  InvalidArgumentError,
  MAX_VOTE,
  noCalibration,
  probe,
  type Quantizer,
  rotate,
  rotatedQueryCount,
  tierLimits,
  type VotePolicy,
  voteTableCount,
} from "../src/index.js";
import { Random } from "./random.js";

const f = Math.fround;

/** Runs `probe` into fresh arrays. */
function probed(options: {
  readonly quantizer: Quantizer;
  readonly queries: Float32Array;
  readonly groupHeads: number;
  readonly votes: VotePolicy;
  readonly group: GroupPolicy;
  readonly calibration?: Calibration;
  readonly idCounts?: Uint32Array;
  readonly limits?: Uint32Array;
}) {
  const { quantizer, groupHeads, group } = options;
  const tableLength = quantizer.subspaces * CENTROIDS;
  const rotated = new Float32Array(rotatedQueryCount(group, groupHeads) * quantizer.headDim);
  const tables = new Uint8Array(voteTableCount(group, groupHeads) * tableLength).fill(255);
  probe({
    ...options,
    calibration: options.calibration ?? noCalibration(quantizer.headDim),
    queriesOffset: 0,
    idCounts: options.idCounts ?? new Uint32Array(tableLength),
    tierLimits: options.limits ?? tierLimits(1000, 0.2),
    rotated,
    tables,
  });
  return { rotated, tables };
}

/** Inner products and span of one block, coordinate by coordinate in f32 as specified. */
function blockProducts(rotated: Float32Array, start: number): { readonly products: number[]; readonly span: number } {
  const products = Array.from({ length: CENTROIDS }, (_, id) => {
    let product = 0;
    for (let j = 0; j < 8; j++) {
      const x = rotated[start + j]!;
      product = f(product + ((id >>> j) & 1 ? x : -x));
    }
    return product;
  });
  let span = 0;
  for (let j = 0; j < 8; j++) span = f(span + Math.abs(rotated[start + j]!));
  return { products, span };
}

/** Products and spans of the listed queries: one alone, several each divided by its largest span and added. */
function tableProducts(rotated: Float32Array, subspaces: number, queries: readonly number[]) {
  const perQuery = queries.map((query) => {
    const blocks = Array.from({ length: subspaces }, (_, b) => blockProducts(rotated, (query * subspaces + b) * 8));
    return { blocks, largest: Math.max(...blocks.map((block) => block.span)) };
  });
  if (perQuery.length === 1) return perQuery[0]!.blocks;
  return Array.from({ length: subspaces }, (_, b) => {
    const products = new Array<number>(CENTROIDS).fill(0);
    let span = 0;
    for (const { blocks, largest } of perQuery) {
      if (!(largest > 0 && largest < Number.POSITIVE_INFINITY)) continue;
      blocks[b]!.products.forEach((product, id) => {
        products[id] = f(products[id]! + f(product / largest));
      });
      span = f(span + f(blocks[b]!.span / largest));
    }
    return { products, span };
  });
}

function gradedByDefinition(rotated: Float32Array, subspaces: number, queries: readonly number[]): number[] {
  const blocks = tableProducts(rotated, subspaces, queries);
  const scale = f(MAX_VOTE / f(2 * Math.max(...blocks.map(({ span }) => span))));
  return blocks.flatMap(({ products, span }) =>
    products.map((product) => Math.floor(f(f(f(product + span) * scale) + 0.5))),
  );
}

/** The paper's tiers, by ranking every centroid anew for every centroid. */
function tieredByDefinition(
  rotated: Float32Array,
  subspaces: number,
  queries: readonly number[],
  idCounts: Uint32Array,
  limits: Uint32Array,
): number[] {
  return tableProducts(rotated, subspaces, queries).flatMap(({ products }, b) =>
    products.map((product, id) => {
      let before = 0;
      products.forEach((other, otherId) => {
        const ahead = other > product || (other === product && otherId < id);
        if (ahead) before += idCounts[b * CENTROIDS + otherId]!;
      });
      return limits.reduce((votes, limit) => votes + (limit > before ? 1 : 0), 0);
    }),
  );
}

describe.each([64, 128, 256])("probe with head dimension %i (seed 41)", (headDim) => {
  const random = new Random(41);
  const quantizer = createQuantizer({ headDim });
  const { subspaces } = quantizer;
  const groupHeads = 3;
  const queries = random.normals(groupHeads * headDim);
  const balance = Float32Array.from({ length: headDim }, () => 0.5 + random.uniform());
  const calibration: Calibration = { mode: "balance", center: random.normals(headDim), balance };
  // Skewed: a giant centroid, many empty ones.
  const idCounts = Uint32Array.from({ length: subspaces * CENTROIDS }, (_, i) =>
    i % CENTROIDS === 77 ? 400 : random.below(6) * random.below(2),
  );
  const limits = tierLimits(1000, 0.25);

  it.each(["max", "sum"] as const)("rotates each balanced query under %s", (group) => {
    const { rotated } = probed({ quantizer, queries, groupHeads, votes: "graded", group, calibration });
    for (let head = 0; head < groupHeads; head++) {
      const balanced = queries.subarray(head * headDim, (head + 1) * headDim).map((x, j) => x * balance[j]!);
      rotate(balanced, 0, quantizer.signs, balanced, 0);
      expect(rotated.subarray(head * headDim, (head + 1) * headDim)).toEqual(balanced);
    }
  });

  it("rotates the mean of the balanced queries under mean, added in head order", () => {
    const { rotated } = probed({ quantizer, queries, groupHeads, votes: "graded", group: "mean", calibration });
    const mean = Float32Array.from({ length: headDim }, (_, j) => {
      let total = f(balance[j]! * queries[j]!);
      for (let head = 1; head < groupHeads; head++) total = f(total + f(balance[j]! * queries[head * headDim + j]!));
      return f(total * f(1 / groupHeads));
    });
    rotate(mean, 0, quantizer.signs, mean, 0);
    expect(rotated).toEqual(mean);
  });

  it.each(["mean", "max", "sum"] as const)("makes the graded tables of %s by their definition", (group) => {
    const { rotated, tables } = probed({ quantizer, queries, groupHeads, votes: "graded", group, calibration });
    const tableQueries = { mean: [[0]], max: [[0], [1], [2]], sum: [[0, 1, 2]] }[group];
    expect(Array.from(tables)).toEqual(
      tableQueries.flatMap((members) => gradedByDefinition(rotated, subspaces, members)),
    );
    // Of one query, the subspace of the largest span uses the whole range; the spans of several bound their sum loosely.
    const most = tables.reduce((greatest, vote) => Math.max(greatest, vote), 0);
    if (group === "sum") expect(most).toBeLessThanOrEqual(MAX_VOTE);
    else expect([most, Math.min(...tables)]).toEqual([MAX_VOTE, 0]);
  });

  it.each(["mean", "max", "sum"] as const)("makes the tiered tables of %s by brute force", (group) => {
    const { rotated, tables } = probed({ quantizer, queries, groupHeads, votes: "tiered", group, idCounts, limits });
    const tableQueries = { mean: [[0]], max: [[0], [1], [2]], sum: [[0, 1, 2]] }[group];
    expect(Array.from(tables)).toEqual(
      tableQueries.flatMap((members) => tieredByDefinition(rotated, subspaces, members, idCounts, limits)),
    );
    expect(new Set(tables)).toEqual(new Set([0, 1, 2, 3, 4, 5, 6]));
  });

  it("ranks equal centroids by their id", () => {
    // A query whose rotation is one coordinate: 128 centroids tie at the top, 128 at the bottom.
    const query = Float32Array.from(quantizer.signs);
    const counts = new Uint32Array(subspaces * CENTROIDS).fill(1);
    const six = Uint32Array.of(1, 2, 3, 4, 5, 6);
    const { tables } = probed({
      quantizer,
      queries: query,
      groupHeads: 1,
      votes: "tiered",
      group: "mean",
      idCounts: counts,
      limits: six,
    });
    // Coordinate 0 is positive in the odd ids; elsewhere everything ties.
    expect(Array.from(tables.subarray(0, 14))).toEqual([0, 6, 0, 5, 0, 4, 0, 3, 0, 2, 0, 1, 0, 0]);
    expect(Array.from(tables.subarray(CENTROIDS, CENTROIDS + 7))).toEqual([6, 5, 4, 3, 2, 1, 0]);
  });

  it("lets a query without a direction vote for nothing", () => {
    const useless = [0, Number.NaN, Number.POSITIVE_INFINITY].map((value) => new Float32Array(headDim).fill(value));
    for (const query of useless) {
      for (const votes of ["graded", "tiered"] as const) {
        for (const group of ["mean", "max", "sum"] as const) {
          const { tables } = probed({ quantizer, queries: query, groupHeads: 1, votes, group, idCounts });
          expect(tables.every((vote) => vote === 0)).toBe(true);
        }
      }
    }
  });

  it("skips heads without a direction under sum", () => {
    for (const value of [0, Number.NaN, Number.NEGATIVE_INFINITY]) {
      const withUseless = new Float32Array(2 * headDim).fill(value);
      withUseless.set(queries.subarray(0, headDim), headDim);
      for (const votes of ["graded", "tiered"] as const) {
        const two = probed({ quantizer, queries: withUseless, groupHeads: 2, votes, group: "sum", idCounts });
        const one = probed({
          quantizer,
          queries: withUseless.subarray(headDim),
          groupHeads: 1,
          votes,
          group: "sum",
          idCounts,
        });
        expect(two.tables).toEqual(one.tables);
      }
    }
  });

  it("does not let a long query drown a short one under sum", () => {
    const scaled = queries.map((value, i) => (i < headDim ? value * 1024 : value));
    const ordinary = probed({ quantizer, queries, groupHeads, votes: "graded", group: "sum" });
    const drowned = probed({ quantizer, queries: scaled, groupHeads, votes: "graded", group: "sum" });
    expect(drowned.tables).toEqual(ordinary.tables);
  });
});

describe("probe", () => {
  const quantizer = createQuantizer({ headDim: 64 });
  const parameters = {
    quantizer,
    calibration: noCalibration(64),
    queries: new Random(42).normals(128),
    queriesOffset: 0,
    groupHeads: 2,
    votes: "tiered" as VotePolicy,
    group: "max" as GroupPolicy,
    idCounts: new Uint32Array(8 * CENTROIDS),
    tierLimits: new Uint32Array(6),
    rotated: new Float32Array(128),
    tables: new Uint8Array(2 * 8 * CENTROIDS),
  };

  it("accepts exact lengths", () => {
    expect(() => probe(parameters)).not.toThrow();
  });

  it.each([
    { votes: "ranked" as VotePolicy },
    { group: "median" as GroupPolicy },
    { groupHeads: 0 },
    { groupHeads: 1.5 },
    { queriesOffset: 1 },
    { queries: new Float32Array(127) },
    { rotated: new Float32Array(127) },
    { tables: new Uint8Array(2 * 8 * CENTROIDS - 1) },
    { idCounts: new Uint32Array(8 * CENTROIDS - 1) },
    { tierLimits: new Uint32Array(5) },
    { quantizer: createQuantizer({ headDim: 64, subspaceDim: 4 }) },
  ])("refuses %o", (change) => {
    expect(() => probe({ ...parameters, ...change })).toThrow(InvalidArgumentError);
  });

  it("reads queries at an offset", () => {
    const shifted = new Float32Array(130).fill(3);
    shifted.set(parameters.queries, 2);
    probe(parameters);
    const expected = parameters.rotated.slice();
    probe({ ...parameters, queries: shifted, queriesOffset: 2 });
    expect(parameters.rotated).toEqual(expected);
  });
});
