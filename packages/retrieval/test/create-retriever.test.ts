import { createContext, planLayout } from "@pariskv/kernels";
import { planMemory } from "@pariskv/memory";
import { DisposedError, InvalidArgumentError, OutOfMemoryError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { trackAllocations } from "../../memory/test/support/track-allocations.js";
import { ArraySteps, createRetriever, DEFAULT_ZONES, planCapacity, type RetrieverOptions } from "../src/index.js";
import { SHAPE } from "./support/drive.js";

const OPTIONS = { device: "reference", shape: SHAPE, maxTokens: 1024 } as const;

describe("createRetriever", () => {
  it("makes a context of its own and ends it", () => {
    const retriever = createRetriever(OPTIONS);
    expect(retriever.context.device).toBe("reference");
    expect(retriever.memory.zones).toEqual(DEFAULT_ZONES);
    expect([retriever.maxRows, retriever.memory.geometry.kvDtype]).toEqual([512, "bf16"]);
    retriever.dispose();
    expect(() => retriever.context.allocate(8, "device")).toThrow(DisposedError);
  });

  it("passes what it is told about the device on", () => {
    expect(() => createRetriever({ ...OPTIONS, device: "tpu" as "cpu" })).toThrow("Expected device to be");
    expect(() => createRetriever({ ...OPTIONS, threads: 0 })).toThrow("Expected threads to be");
    expect(() => createRetriever({ ...OPTIONS, isa: "sse" as "avx2" })).toThrow("Expected isa to be");
  });

  it.each([
    ["layers", { shape: { ...SHAPE, layers: 0 } }],
    ["kvHeads", { shape: { ...SHAPE, kvHeads: 0 } }],
    ["queryHeads", { shape: { ...SHAPE, queryHeads: 3 } }],
    ["queryHeads", { shape: { ...SHAPE, queryHeads: 18 } }],
    ["queryHeads", { shape: { ...SHAPE, queryHeads: 0 } }],
    ["headDim", { shape: { ...SHAPE, headDim: 96 } }],
    ["kvDtype", { kvDtype: "f8" as "f16" }],
    ["maxTokens", { maxTokens: 0 }],
    ["maxSequences", { maxSequences: 0 }],
    ["maxSequences", { maxSequences: 4097 }],
    ["zones.chunkTokens", { zones: { chunkTokens: 0 } }],
    ["policy.topK", { policy: { topK: 0 } }],
    ["seed", { seed: -1 }],
    ["capacityPages", { capacityPages: 0 }],
    ["calibration", { calibration: new Float32Array(3) }],
    ["calibration", { calibration: new Float32Array(2 * 2 * 2 * 64) }],
  ] as [string, Partial<RetrieverOptions>][])("refuses a wrong %s by name, and leaks nothing", (argument, options) => {
    const context = createContext({ device: "reference" });
    const allocations = trackAllocations(context);
    const { device: _, ...settings } = OPTIONS;
    const create = () => createRetriever({ ...settings, ...options, context });
    expect(create).toThrow(InvalidArgumentError);
    expect(create).toThrow(`Expected ${argument} to be`);
    expect(allocations.live.size).toBe(0);
  });

  it("takes a context or how to make one, not both", () => {
    const context = createContext({ device: "reference" });
    const both = { ...OPTIONS, context, threads: 2 } as RetrieverOptions;
    expect(() => createRetriever(both)).toThrow(
      'Expected device to be left out where a context is given but received "reference".',
    );
  });

  it("gives back what it took when any allocation fails", () => {
    const context = createContext({ device: "reference" });
    const allocations = trackAllocations(context);
    const { device: _, ...settings } = OPTIONS;
    let failures = 0;
    for (; ; failures++) {
      allocations.allowed = failures;
      try {
        createRetriever({ ...settings, context, policy: { votes: "tiered" } }).dispose();
        break;
      } catch (error) {
        expect(error).toBeInstanceOf(OutOfMemoryError);
      }
      expect(allocations.live.size).toBe(0);
    }
    // Eight of the memory and the row table; the plan is the context's own matter.
    expect(failures).toBe(9);
    expect(allocations.live.size).toBe(0);
  });

  it("makes what the planner foresees: within 2 % on the device, to the byte in mapped memory", () => {
    const context = createContext({ device: "reference" });
    const allocations = trackAllocations(context);
    const shape = { layers: 2, queryHeads: 8, kvHeads: 2, headDim: 128 };
    const maxTokens = 1900;
    using retriever = createRetriever({ context, shape, maxTokens, maxSequences: 2 });
    const steps = new ArraySteps(retriever);
    const staging = [...allocations.live].slice(-4).reduce((sum, buffer) => sum + buffer.bytes, 0);
    const kv = new Float32Array(maxTokens * 256).fill(1);
    for (let sequence = 0; sequence < 2; sequence++) {
      steps.prefill(retriever.createSequence(), maxTokens, () => ({ k: kv, v: kv }));
    }
    const { policy, memory } = retriever;
    const workspaceBytes = (contextTokens: number) =>
      planLayout({
        ...memory.geometry,
        group: policy.group,
        maxRows: 2,
        ...planCapacity(policy, shape.layers, contextTokens),
      }).bytes;
    const { geometry, zones } = memory;
    const plan = planMemory({
      geometry,
      zones,
      contextTokens: maxTokens,
      sequences: 2,
      countIds: false,
      workspaceBytes,
    });
    expect(allocations.bytes("mapped")).toBe(plan.bytes.mapped);
    const taken = allocations.bytes("device") - staging + retriever.plan.bytes;
    expect(Math.abs(taken / plan.bytes.device - 1)).toBeLessThan(0.02);
  });
});
