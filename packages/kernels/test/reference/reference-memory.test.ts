import { DeviceError, DisposedError, InvalidArgumentError, OutOfMemoryError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { createReferenceContext } from "../../src/reference/reference-context.js";
import { Scene } from "../support/scene.js";

describe("memory of the reference backend", () => {
  it("allocates zeroed memory at addresses that no other buffer reaches", () => {
    using context = createReferenceContext();
    const a = context.allocate(13, "device");
    const b = context.allocate(2 ** 20, "mapped");
    expect([a.bytes, a.kind, b.kind]).toEqual([13, "device", "mapped"]);
    expect(b.address - a.address).toBeGreaterThan(BigInt(a.bytes));
    const bytes = new Uint8Array(13).fill(9);
    a.read(0, bytes);
    expect(bytes).toEqual(new Uint8Array(13));
  });

  it("copies bytes in and out at any offset, and refuses what does not fit", () => {
    using context = createReferenceContext();
    const buffer = context.allocate(8, "pinned");
    buffer.write(3, Uint8Array.of(1, 2, 3, 4, 5));
    const target = new Uint8Array(2);
    buffer.read(5, target);
    expect(target).toEqual(Uint8Array.of(3, 4));
    expect(() => buffer.write(4, new Uint8Array(5))).toThrow(
      "Expected source to be at most 4 bytes at byte 4 but received Uint8Array of 5 elements.",
    );
    expect(() => buffer.read(9, new Uint8Array(0))).toThrow(InvalidArgumentError);
    expect(() => buffer.read(-1, target)).toThrow(InvalidArgumentError);
    expect(() => buffer.write(0, [1] as unknown as Uint8Array)).toThrow("a typed array");
  });

  it("copies between places of one buffer that overlap as if through a third place", () => {
    using context = createReferenceContext();
    const buffer = context.allocate(6, "device");
    buffer.write(0, Uint8Array.of(1, 2, 3, 4, 5, 6));
    context.copy({ from: { buffer }, to: { buffer, offsetBytes: 2 }, bytes: 4 });
    const bytes = new Uint8Array(6);
    buffer.read(0, bytes);
    expect(bytes).toEqual(Uint8Array.of(1, 2, 1, 2, 3, 4));
    expect(() => context.copy({ from: { buffer }, to: { buffer, offsetBytes: 3 }, bytes: 4 })).toThrow(
      "Expected to to",
    );
  });

  it("says how much was asked for and how much there is when memory does not suffice", () => {
    using context = createReferenceContext();
    const request = () => context.allocate(2 ** 50, "mapped");
    expect(request).toThrow(OutOfMemoryError);
    expect(request).toThrow(
      /Expected the free mapped memory to be at least 1125899906842624 bytes but received \d+ bytes/,
    );
    expect(() => context.allocate(0, "device")).toThrow(InvalidArgumentError);
    expect(() => context.allocate(1.5, "device")).toThrow(InvalidArgumentError);
    expect(() => context.allocate(8, "shared" as "device")).toThrow('"device" or "pinned" or "mapped"');
  });

  it("refuses the use of a buffer after its dispose or its context's, and a second dispose does nothing", () => {
    const context = createReferenceContext();
    const buffer = context.allocate(8, "device");
    const other = context.allocate(8, "device");
    buffer.dispose();
    buffer.dispose();
    expect(() => buffer.read(0, new Uint8Array(1))).toThrow(DisposedError);
    expect(() => context.copy({ from: { buffer }, to: { buffer: other }, bytes: 8 })).toThrow(DisposedError);
    context.dispose();
    context.dispose();
    expect(() => other.write(0, new Uint8Array(1))).toThrow(DisposedError);
    expect(() => context.allocate(8, "device")).toThrow(
      "Expected the context to be in use but received a disposed one.",
    );
  });

  it("refuses buffers, caches and plans of another context", () => {
    using context = createReferenceContext();
    using other = createReferenceContext();
    const buffer = context.allocate(8, "device");
    const foreign = other.allocate(8, "device");
    expect(() => context.copy({ from: { buffer }, to: { buffer: foreign }, bytes: 8 })).toThrow(
      "a buffer of this context",
    );
    const scene = new Scene(other, { sequences: [{ zoneTokens: 3, ringUsed: 1 }] });
    expect(() => context.createPlan(scene.plan.params)).toThrow("Expected cache to be a cache of this context");
    expect(() => context.collide({ plan: scene.plan, layer: 0, step: scene.step() })).toThrow("a plan of this context");
    expect(() => new Scene(other, scene.data).context.synchronize()).not.toThrow();
  });

  it("reports a page address that lies in no buffer", () => {
    using context = createReferenceContext();
    const scene = new Scene(context, { sequences: [{ zoneTokens: 3, ringUsed: 1 }] });
    scene.decode();
    scene.summaries.dispose();
    expect(() => scene.decode()).toThrow(DeviceError);
    expect(() => scene.decode()).toThrow("a page address in no buffer: 0x");
  });
});
