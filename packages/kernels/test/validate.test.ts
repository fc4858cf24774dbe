import { InvalidArgumentError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import type { CacheParams, PlanParams } from "../src/context.js";
import { createReferenceContext } from "../src/reference/reference-context.js";
import { checkInteger, checkRef, checkRows } from "../src/validate.js";
import * as check from "../src/validate-operators.js";
import { Scene } from "./support/scene.js";

const context = createReferenceContext();
const buffer = context.allocate(64, "device");
const scene = new Scene(context, { sequences: [{ zoneTokens: 3, ringUsed: 1 }], votes: "tiered", group: "max" });

function refusal(call: () => void): InvalidArgumentError {
  try {
    call();
  } catch (error) {
    if (InvalidArgumentError.isInstance(error)) return error;
    throw error;
  }
  return expect.fail("nothing was refused");
}

describe("argument checks", () => {
  it("names the argument, what was expected and what came", () => {
    expect(refusal(() => checkInteger("layer", 3, 0, 2)).message).toBe(
      "Expected layer to be an integer in 0..2 but received 3.",
    );
    expect(() => checkInteger("layer", Number.NaN, 0, 2)).toThrow("received NaN");
    expect(() => checkInteger("layer", 2, 0, 2)).not.toThrow();
  });

  it("keeps places inside their buffers, to the byte", () => {
    expect(() => checkRef("x", { buffer, offsetBytes: 60 }, 4)).not.toThrow();
    expect(() => checkRef("x", { buffer, offsetBytes: 64 }, 4)).toThrow("Expected x to be 4 bytes inside its buffer");
    expect(() => checkRef("x", { buffer, offsetBytes: 2 }, 4)).toThrow("Expected x.offsetBytes to be a multiple of 4");
    expect(() => checkRef("x", { buffer, offsetBytes: -4 }, 4)).toThrow("Expected x.offsetBytes to be");
    expect(() => checkRef("x", undefined as never, 4)).toThrow("Expected x to be a place in a buffer");
    expect(() => checkRef("x", { buffer: 7 } as never, 4)).toThrow("Expected x to be a place in a buffer");
  });

  it("counts the last of several rows without its stride", () => {
    expect(() => checkRows("x", { buffer, rowStride: 10 }, 2, 6)).not.toThrow();
    expect(() => checkRows("x", { buffer, rowStride: 10 }, 2, 7)).toThrow("Expected x to be 68 bytes inside");
    expect(() => checkRows("x", { buffer, rowStride: 5 }, 1, 6)).toThrow("Expected x.rowStride to be");
  });

  const signs = scene.cache.params.codec.signs.slice().fill(0, 5, 6);
  const badCaches: Partial<Record<keyof CacheParams, unknown[]>> = {
    layers: [0, 1.5, "1"],
    kvHeads: [0, 5],
    queryGroup: [0, 9],
    headDim: [32, 96, 512],
    kvDtype: ["f64"],
    slots: [0, 2],
    sinkTokens: [-1, 1000],
    ringTokens: [0, 1000],
    maxPages: [0, 2 ** 22],
    pageCapacity: [0, 1000],
    window: [{ buffer, offsetBytes: 0 }],
    pageAddress: [{ buffer, offsetBytes: 4 }],
    idCounts: [{ buffer }],
    hotSet: [
      { lines: 4, tags: { buffer }, records: { buffer } },
      { lines: 6, tags: { buffer: scene.window }, records: { buffer: scene.window } },
      { lines: 16384, tags: { buffer: scene.window }, records: { buffer: scene.window } },
      { lines: 4, tags: { buffer: scene.window, offsetBytes: 8 }, records: { buffer: scene.window } },
    ],
    codec: [
      undefined,
      { ...scene.cache.params.codec, signs },
      { ...scene.cache.params.codec, centres: new Float32Array(8) },
    ],
  };
  for (const [name, values] of Object.entries(badCaches)) {
    it(`refuses a cache with a bad ${name}`, () => {
      for (const value of values) {
        expect(refusal(() => context.createCache({ ...scene.cache.params, [name]: value })).argument).toBeTruthy();
      }
    });
  }

  const badPlans: Partial<Record<keyof PlanParams, unknown[]>> = {
    maxRows: [0, -1],
    maxZoneTokens: [0, 2 ** 31],
    maxCandidates: [0],
    maxTopK: [0, undefined],
    votes: ["graduated"],
    group: ["median"],
  };
  for (const [name, values] of Object.entries(badPlans)) {
    it(`refuses a plan with a bad ${name}`, () => {
      for (const value of values) {
        expect(refusal(() => context.createPlan({ ...scene.plan.params, [name]: value })).argument).toBe(name);
      }
    });
  }

  it("refuses tiered votes without id counts", () => {
    const { idCounts: _, ...params } = scene.cache.params;
    const cache = context.createCache(params);
    expect(() => context.createPlan({ ...scene.plan.params, cache })).toThrow("Expected cache.idCounts to be a buffer");
    expect(() => context.createPlan({ ...scene.plan.params, cache, votes: "graded" })).not.toThrow();
  });

  const rows = { buffer, rowStride: 8 };
  const step = { table: { buffer }, rowCount: 1 };
  const dense = {
    embed: () =>
      check.checkEmbed({
        tokens: { buffer },
        weight: { buffer },
        dtype: "f32",
        vocab: 3,
        width: 8,
        rowCount: 1,
        out: rows,
      }),
    rmsnorm: () => check.checkRmsnorm({ x: rows, weight: { buffer }, eps: -1, width: 8, rowCount: 1, out: rows }),
    linear: () =>
      check.checkLinear({
        x: rows,
        weight: { buffer },
        dtype: "bf16",
        inWidth: 8,
        outWidth: 8,
        rowCount: 1,
        out: rows,
      }),
    rope: () => check.checkRope({ x: rows, heads: 1, headDim: 7, frequencies: { buffer }, step }),
    swiglu: () => check.checkSwiglu({ x: rows, width: 5, rowCount: 1, out: rows }),
    argmax: () => check.checkArgmax({ x: rows, width: 8, rowCount: 9, out: { buffer } }),
    attendCausal: () =>
      check.checkAttendCausal({ cache: scene.cache, layer: 0, step, firstRow: 1, rowCount: 1, q: rows, out: rows }),
    copy: () => check.checkCopy({ from: { buffer }, to: { buffer }, bytes: 65 }),
  };
  const expected = {
    embed: "weight",
    rmsnorm: "eps",
    linear: "weight",
    rope: "headDim",
    swiglu: "x.rowStride",
    argmax: "x",
    attendCausal: "firstRow",
    copy: "from",
  };
  for (const [verb, call] of Object.entries(dense)) {
    it(`refuses ${verb} when ${expected[verb as keyof typeof expected]} does not fit`, () => {
      expect(refusal(call).argument).toBe(expected[verb as keyof typeof expected]);
    });
  }
});
