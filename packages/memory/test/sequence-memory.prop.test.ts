import { PAGE_TOKENS, ParisKVError } from "@pariskv/quantizer";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type KvGeometry, type SequenceMemory, sealedPages } from "../src/index.js";
import { TestMemory } from "./support/test-memory.js";

const GEOMETRY: KvGeometry = { layers: 1, kvHeads: 1, queryGroup: 1, headDim: 64, kvDtype: "bf16" };
const ZONES = { sinkTokens: 3, localTokens: 9, chunkTokens: 700 };
const SLOTS = 3;
const SEED = 20_261;

/** What one sequence should hold. */
interface Model {
  readonly sequence: SequenceMemory;
  readonly ids: number[];
}

type Operation =
  | { readonly kind: "create" }
  | { readonly kind: "append" | "fork"; readonly which: number; readonly amount: number }
  | { readonly kind: "begin" | "commit" | "abort" | "flush" | "dispose"; readonly which: number };

const which = fc.nat({ max: SLOTS - 1 });
const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 2, arbitrary: fc.constant({ kind: "create" as const }) },
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant("append" as const), which, amount: fc.integer({ min: 1, max: 700 }) }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("fork" as const), which, amount: fc.nat({ max: 3000 }) }) },
  ...(["begin", "commit", "abort", "flush"] as const).map((kind) => ({
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant(kind), which }),
  })),
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("dispose" as const), which }) },
);

/** Runs one operation; those that ParisKV refuses change nothing. */
function run(test: TestMemory, models: Model[], operation: Operation, nextId: () => number): void {
  if (operation.kind === "create") {
    models.push({ sequence: test.memory.createSequence(), ids: [] });
    return;
  }
  const model = models[operation.which];
  if (!model) return;
  const { sequence, ids } = model;
  switch (operation.kind) {
    case "append": {
      sequence.prepareAppend(operation.amount);
      const more = Array.from({ length: operation.amount }, nextId);
      test.append(sequence, more);
      ids.push(...more);
      return;
    }
    case "fork": {
      const tokens = Math.min(operation.amount, ids.length);
      models.push({ sequence: sequence.fork(tokens), ids: ids.slice(0, tokens) });
      return;
    }
    case "begin":
      sequence.beginFlush();
      return;
    case "commit":
      sequence.pending[0]?.commit();
      return;
    case "abort":
      sequence.pending.at(-1)?.abort();
      return;
    case "flush":
      sequence.flush();
      return;
    case "dispose":
      sequence.dispose();
      models.splice(operation.which, 1);
  }
}

/** What must hold between any two operations. */
function expectConsistent(test: TestMemory, models: readonly Model[]): void {
  const holders = new Map<number, number>();
  for (const { sequence, ids } of models) {
    test.expectTokens(sequence, ids);
    const sealed = sealedPages(ZONES, ids.length);
    expect(sequence.pages.length + sequence.pending.length).toBeLessThanOrEqual(sealed);
    expect(test.tables(sequence).zoneTokens).toBe(sequence.pages.length * PAGE_TOKENS);
    for (const page of [...sequence.pages, ...sequence.pending.map((flush) => flush.pageId)]) {
      holders.set(page, (holders.get(page) ?? 0) + 1);
    }
  }
  for (const [page, count] of holders) expect(test.memory.pages.references(page)).toBe(count);
  expect(test.memory.pages.usedPages).toBe(holders.size);
  expect(test.memory.freeSlots).toBe(SLOTS - models.length);
}

describe(`any history of sequences (seed ${SEED})`, () => {
  it("keeps every token of every sequence, counts pages exactly, and survives refusals", () => {
    let refusals = 0;
    fc.assert(
      fc.property(fc.array(operation, { minLength: 10, maxLength: 24, size: "max" }), (operations) => {
        const test = new TestMemory({
          geometry: GEOMETRY,
          zones: ZONES,
          slots: SLOTS,
          capacityPages: 4,
          maxTokens: 2600,
        });
        const models: Model[] = [{ sequence: test.memory.createSequence(), ids: [] }];
        let id = 0;
        for (const operation of operations) {
          try {
            run(test, models, operation, () => id++);
          } catch (error) {
            if (!ParisKVError.isInstance(error)) throw error;
            refusals++;
          }
          expectConsistent(test, models);
        }
        for (const { sequence } of models) sequence.dispose();
        expect(test.memory.pages.usedPages).toBe(0);
        test.context.dispose();
      }),
      { seed: SEED, numRuns: 50 },
    );
    expect(refusals).toBeGreaterThan(40);
  });
});
