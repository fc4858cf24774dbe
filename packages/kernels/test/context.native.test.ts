import {
  BackendUnavailableError,
  DisposedError,
  InvalidArgumentError,
  OutOfMemoryError,
  ParisKVError,
} from "@pariskv/quantizer";
import { expect, it } from "vitest";
import type { Cache, Context, MemoryKind, Plan, PlanField } from "../src/context.js";
import { createContext } from "../src/create-context.js";
import { planLayout } from "../src/plan-layout.js";
import { describeDevices } from "./support/devices.js";
import { Scene } from "./support/scene.js";

/** What `call` throws; fails when it throws nothing. */
function thrownBy(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  return expect.fail("Expected the call to throw.");
}

function readBytes(context: Context, bytes: number, kind: MemoryKind = "device"): Uint8Array {
  using buffer = context.allocate(bytes, kind);
  const target = new Uint8Array(bytes).fill(255);
  buffer.read(0, target);
  return target;
}

describeDevices("contexts and memory", (device) => {
  it("says what was chosen", () => {
    using context = device.open();
    expect(device.name.startsWith(context.device)).toBe(true);
    expect(context.detail).not.toBe("");
  });

  it("gives zeroed memory of every kind, below and above the size of a huge page", () => {
    using context = device.open();
    for (const kind of ["device", "pinned", "mapped"] as const) {
      for (const bytes of [1, 63, 4096, 3 * 2 ** 20 + 5]) {
        expect(readBytes(context, bytes, kind).every((byte) => byte === 0)).toBe(true);
      }
    }
  });

  it("gives zeroed memory again after memory was used and given back", () => {
    using context = device.open();
    for (const bytes of [1000, 3 * 2 ** 20]) {
      const buffer = context.allocate(bytes, "device");
      buffer.write(0, new Uint8Array(bytes).fill(7));
      buffer.dispose();
      expect(readBytes(context, bytes).every((byte) => byte === 0)).toBe(true);
    }
  });

  it("reads back what was written, at any offset and through any view", () => {
    using context = device.open();
    using buffer = context.allocate(64, "device");
    expect(buffer.bytes).toBe(64);
    expect(buffer.address > 0n).toBe(true);
    buffer.write(8, Float32Array.of(1.5, -2));
    buffer.write(63, Uint8Array.of(9));
    const window = new Uint8Array(100);
    buffer.read(0, new DataView(window.buffer, 10, 64));
    expect(Array.from(new Float32Array(window.slice(18, 26).buffer))).toEqual([1.5, -2]);
    expect(window[73]).toBe(9);
    expect(window[9] ?? 0).toBe(0);
    buffer.write(64, new Uint8Array(0)); // nothing, at the very end
  });

  it("refuses to read or write past the end of a buffer", () => {
    using context = device.open();
    using buffer = context.allocate(64, "device");
    for (const [offsetBytes, bytes] of [
      [0, 65],
      [64, 1],
      [-1, 1],
      [0.5, 1],
      [2 ** 60, 1],
    ] as const) {
      const view = new Uint8Array(bytes);
      expect(thrownBy(() => buffer.write(offsetBytes, view))).toBeInstanceOf(InvalidArgumentError);
      expect(thrownBy(() => buffer.read(offsetBytes, view))).toBeInstanceOf(InvalidArgumentError);
    }
  });

  it("tells how long reading a buffer takes, until it is disposed", () => {
    using context = device.open();
    const buffer = context.allocate(1 << 20, "mapped");
    expect(buffer.timeRead()).toBeGreaterThan(0);
    buffer.dispose();
    expect(() => buffer.timeRead()).toThrow(DisposedError);
  });

  it("copies between buffers and refuses ranges outside them", () => {
    using context = device.open();
    using from = context.allocate(16, "device");
    using to = context.allocate(16, "pinned");
    from.write(
      0,
      Uint8Array.from({ length: 16 }, (_, i) => i),
    );
    context.copy({ from: { buffer: from, offsetBytes: 4 }, to: { buffer: to, offsetBytes: 1 }, bytes: 8 });
    const target = new Uint8Array(16);
    to.read(0, target);
    expect(Array.from(target)).toEqual([0, 4, 5, 6, 7, 8, 9, 10, 11, 0, 0, 0, 0, 0, 0, 0]);
    for (const bytes of [0, 13, 2 ** 53 - 1]) {
      const error = thrownBy(() => context.copy({ from: { buffer: from, offsetBytes: 4 }, to: { buffer: to }, bytes }));
      expect(error).toBeInstanceOf(InvalidArgumentError);
    }
  });

  it("says how much memory of a kind is left, and gives no more than that", () => {
    using context = device.open();
    for (const kind of ["device", "pinned", "mapped"] as const) {
      const availableBytes = context.availableBytes(kind);
      expect(availableBytes).toBeGreaterThan(2 ** 20);
      const requestedBytes = 2 * Math.min(availableBytes, 2 ** 50);
      const error = thrownBy(() => context.allocate(requestedBytes, kind));
      expect(error).toBeInstanceOf(OutOfMemoryError);
      expect(error).toMatchObject({ kind, requestedBytes });
      context.allocate(2 ** 20, kind).dispose();
    }
    const other = thrownBy(() => context.availableBytes("disk" as MemoryKind));
    expect(other).toBeInstanceOf(InvalidArgumentError);
    context.dispose();
    expect(thrownBy(() => context.availableBytes("device"))).toBeInstanceOf(DisposedError);
  });

  it("refuses memory that the machine does not have, with both numbers in one sentence", () => {
    using context = device.open();
    const requestedBytes = 2 ** 50;
    const error = thrownBy(() => context.allocate(requestedBytes, "pinned")) as OutOfMemoryError;
    expect(error).toBeInstanceOf(OutOfMemoryError);
    expect(error).toMatchObject({ kind: "pinned", requestedBytes });
    expect(error.availableBytes).toBeGreaterThan(0);
    expect(error.availableBytes).toBeLessThan(requestedBytes);
    expect(error.message).toBe(
      `Expected the free pinned memory to be at least ${requestedBytes} bytes but received ${error.availableBytes} bytes.`,
    );
    expect(readBytes(context, 64).length).toBe(64); // and goes on
  });

  it("refuses wrong arguments of allocate", () => {
    using context = device.open();
    for (const bytes of [0, -1, 1.5, Number.NaN, 2 ** 60]) {
      expect(thrownBy(() => context.allocate(bytes, "device"))).toBeInstanceOf(InvalidArgumentError);
    }
    expect(thrownBy(() => context.allocate(8, "disk" as MemoryKind))).toBeInstanceOf(InvalidArgumentError);
  });

  it("lets dispose be called twice and nothing else afterwards", () => {
    const context = device.open();
    const buffer = context.allocate(64, "device");
    const other = context.allocate(64, "device");
    buffer.dispose();
    buffer.dispose();
    expect(thrownBy(() => buffer.write(0, new Uint8Array(1)))).toBeInstanceOf(DisposedError);
    expect(thrownBy(() => buffer.read(0, new Uint8Array(1)))).toBeInstanceOf(DisposedError);
    expect(thrownBy(() => context.copy({ from: { buffer }, to: { buffer: other }, bytes: 1 }))).toBeInstanceOf(
      DisposedError,
    );
    context.dispose();
    context.dispose();
    for (const call of [
      () => context.allocate(64, "device"),
      () => context.record(() => {}),
      () => context.takeTimes(),
      () => context.synchronize(),
      () => other.read(0, new Uint8Array(1)),
    ]) {
      expect(thrownBy(call)).toBeInstanceOf(DisposedError);
    }
    other.dispose(); // what outlives its context can still be disposed
  });

  it("keeps two contexts apart", () => {
    const first = device.open();
    using second = device.open();
    const mine = first.allocate(64, "device");
    const theirs = second.allocate(64, "device");
    const error = thrownBy(() => second.copy({ from: { buffer: mine }, to: { buffer: theirs }, bytes: 1 }));
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect((error as Error).message).toContain("a buffer of this context");
    first.dispose();
    theirs.write(0, Uint8Array.of(3));
    const target = new Uint8Array(1);
    theirs.read(0, target);
    expect(target[0]).toBe(3);
  });

  it("refuses caches and plans of another context, and objects that are neither", () => {
    using first = device.open();
    using second = device.open();
    const scene = new Scene(first, { sequences: [{ zoneTokens: 0, ringUsed: 4 }] });
    const step = scene.step();
    const calls: (() => unknown)[] = [
      () => second.collide({ plan: scene.plan, layer: 0, step }),
      () => first.collide({ plan: {} as Plan, layer: 0, step }),
      () => second.encode({ cache: scene.cache, slot: 0, pageIndex: 0, pageId: 0 }),
      () => first.encode({ cache: { params: scene.cache.params } as Cache, slot: 0, pageIndex: 0, pageId: 0 }),
      () => second.createPlan({ ...scene.plan.params }),
    ];
    for (const call of calls) expect(thrownBy(call)).toBeInstanceOf(InvalidArgumentError);
    expect(thrownBy(() => first.collide({ plan: scene.plan, layer: 9, step }))).toMatchObject({ argument: "layer" });
    scene.plan.dispose();
    expect(thrownBy(() => first.collide({ plan: scene.plan, layer: 0, step }))).toBeInstanceOf(DisposedError);
    expect(thrownBy(() => scene.plan.field("scores"))).toBeInstanceOf(DisposedError);
    scene.cache.dispose();
    expect(thrownBy(() => first.encode({ cache: scene.cache, slot: 0, pageIndex: 0, pageId: 0 }))).toBeInstanceOf(
      DisposedError,
    );
  });

  it("lays a plan's workspaces out as planLayout says", () => {
    using context = device.open();
    for (const group of ["mean", "max", "sum"] as const) {
      const { plan } = new Scene(context, { sequences: [{ zoneTokens: 513, ringUsed: 4 }], group });
      const { layers, kvHeads, queryGroup, headDim } = plan.params.cache.params;
      const { fields, bytes } = planLayout({ layers, kvHeads, queryGroup, headDim, ...plan.params });
      for (const name of Object.keys(fields) as PlanField[]) {
        expect(plan.field(name).offsetBytes, name).toBe(fields[name].offsetBytes);
      }
      expect(plan.bytes).toBeGreaterThanOrEqual(bytes); // a backend may need scratch beside them
    }
  });
});

it("takes back every byte: three hundred contexts with buffers leave the process no larger", (ctx) => {
  const refusal = thrownOrUndefined(() => createContext({ device: "cpu", threads: 2 }).dispose());
  ctx.skip(refusal instanceof BackendUnavailableError, String(refusal));
  const cycle = () => {
    using context = createContext({ device: "cpu", threads: 2 });
    context.allocate(3 * 2 ** 20, "device");
    context.allocate(1000, "device");
  };
  for (let i = 0; i < 50; i++) cycle();
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 300; i++) cycle();
  // One leaked buffer a cycle would be 900 MiB.
  expect(process.memoryUsage().rss - before).toBeLessThan(32 * 2 ** 20);
});

function thrownOrUndefined(call: () => void): unknown {
  try {
    call();
  } catch (error) {
    if (!ParisKVError.isInstance(error)) throw error;
    return error;
  }
  return undefined;
}
