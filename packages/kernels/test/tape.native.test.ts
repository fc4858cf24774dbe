import { spawnSync } from "node:child_process";
import { Worker } from "node:worker_threads";
import { DisposedError, InvalidArgumentError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import type { Context, DeviceBuffer, Tape } from "../src/context.js";
import { createContext } from "../src/create-context.js";
import { findAddon } from "../src/native/addon.js";
import { describeDevices } from "./support/devices.js";
import { upload } from "./support/scene.js";

/** x = 1, 2, 3, 4 and a tape that doubles it: out = x + x, then x = out. */
function doubling(context: Context): { x: DeviceBuffer; out: DeviceBuffer; tape: Tape } {
  const x = upload(context, Float32Array.of(1, 2, 3, 4));
  const identity = upload(context, Float32Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1));
  const out = context.allocate(16, "device");
  const rows = (buffer: DeviceBuffer) => ({ buffer, rowStride: 4 });
  const tape = context.record(() => {
    const shape = { dtype: "f32", inWidth: 4, outWidth: 4, rowCount: 1 } as const;
    context.linear({ x: rows(x), weight: { buffer: identity }, ...shape, out: rows(out) });
    context.linear({ x: rows(x), weight: { buffer: identity }, ...shape, accumulate: true, out: rows(out) });
    context.copy({ from: { buffer: out }, to: { buffer: x }, bytes: 16 });
  });
  return { x, out, tape };
}

function floats(buffer: DeviceBuffer): number[] {
  const target = new Float32Array(buffer.bytes / 4);
  buffer.read(0, target);
  return Array.from(target);
}

/** A tape that takes a few tens of milliseconds on the CPU. */
function longTape(context: Context): Tape {
  const bytes = 2 ** 22;
  const from = context.allocate(bytes, "device");
  const to = context.allocate(bytes, "device");
  return context.record(() => {
    for (let i = 0; i < 50; i++) context.copy({ from: { buffer: from }, to: { buffer: to }, bytes });
  });
}

describeDevices("tapes", (device) => {
  it("record runs nothing, run runs everything in order, as often as it is called", () => {
    using context = device.open();
    const { x, out, tape } = doubling(context);
    expect(floats(out)).toEqual([0, 0, 0, 0]);
    tape.run();
    expect(floats(out)).toEqual([2, 4, 6, 8]);
    for (let i = 0; i < 5; i++) tape.run();
    expect(floats(x)).toEqual([64, 128, 192, 256]);
  });

  it("counts the calls and the time of every verb, until they are taken", () => {
    using context = device.open();
    const { tape } = doubling(context);
    context.takeTimes();
    tape.run();
    tape.run();
    const times = context.takeTimes();
    expect([...times.keys()].sort()).toEqual(["copy", "linear"]);
    expect(times.get("linear")?.calls).toBe(4);
    expect(times.get("copy")?.calls).toBe(2);
    expect(times.get("linear")?.microseconds).toBeGreaterThan(0);
    expect(context.takeTimes().size).toBe(0);
  });

  it("queued runs take their turn before what is asked for later", async () => {
    using context = device.open();
    const { x, tape } = doubling(context);
    const runs = [tape.runAsync(), tape.runAsync(), tape.runAsync()];
    await Promise.all(runs);
    expect(floats(x)).toEqual([8, 16, 24, 32]);
  });

  it("goes on when a recording fails: what the body throws comes out, and nothing of it stays", () => {
    using context = device.open();
    const { x, tape } = doubling(context);
    const mishap = new Error("a mishap in the body");
    expect(() =>
      context.record(() => {
        context.copy({ from: { buffer: x }, to: { buffer: x, offsetBytes: 8 }, bytes: 8 });
        throw mishap;
      }),
    ).toThrow(mishap);
    tape.run();
    expect(floats(x)).toEqual([2, 4, 6, 8]);
  });

  it("refuses a recording inside a recording, and a run inside one", () => {
    using context = device.open();
    const { x, tape } = doubling(context);
    const outer = context.record(() => {
      expect(() => context.record(() => {})).toThrow(InvalidArgumentError);
      expect(() => tape.run()).toThrow(InvalidArgumentError);
      context.copy({ from: { buffer: x }, to: { buffer: x, offsetBytes: 8 }, bytes: 8 });
    });
    outer.run();
    expect(floats(x)).toEqual([1, 2, 1, 2]);
  });

  it("keeps the buffers that it uses after they are disposed", () => {
    using context = device.open();
    const { x, out, tape } = doubling(context);
    x.dispose();
    tape.run();
    tape.run();
    expect(floats(out)).toEqual([4, 8, 12, 16]);
  });

  it("is gone after dispose, which may be called twice", async () => {
    using context = device.open();
    const { tape } = doubling(context);
    tape.dispose();
    tape.dispose();
    expect(() => tape.run()).toThrow(DisposedError);
    await expect(tape.runAsync()).rejects.toThrow(DisposedError);
  });

  it("still runs what was queued when the tape and its buffers are disposed in mid-flight", async () => {
    using context = device.open();
    const { x, out, tape } = doubling(context);
    const runs = [tape.runAsync(), tape.runAsync()];
    tape.dispose();
    x.dispose();
    await Promise.all(runs);
    expect(floats(out)).toEqual([4, 8, 12, 16]);
  });

  it("settles every pending run when the context is disposed in mid-flight", async () => {
    const context = device.open();
    const tape = longTape(context);
    const runs = Array.from({ length: 6 }, () => tape.runAsync());
    context.dispose();
    for (const { status, ...rest } of await Promise.allSettled(runs)) {
      // What ran already is done; the others say why they did not.
      if (status === "rejected") expect((rest as PromiseRejectedResult).reason).toBeInstanceOf(DisposedError);
    }
    await expect(tape.runAsync()).rejects.toThrow(DisposedError);
    expect(() => tape.run()).toThrow(DisposedError);
    tape.dispose();
  });
});

const search = findAddon();
const missing = search.addon === undefined ? `cpu: ${search.reason}` : "";
const path = search.addon === undefined ? "" : search.path;

/** JavaScript that opens a context on the addon and records a tape of copies. */
const PROGRAM = `
  const addon = require(PATH);
  const context = addon.createContext(0, 2, null);
  const from = addon.createBuffer(context, 2 ** 22, 0);
  const to = addon.createBuffer(context, 2 ** 22, 0);
  addon.recordBegin(context);
  for (let i = 0; i < 50; i++) addon.copy(context, from, 0, to, 0, 2 ** 22);
  const tape = addon.recordEnd(context);
`;

function startWorker(code: string): Worker {
  const program = PROGRAM.replace("PATH", "require('node:worker_threads').workerData");
  return new Worker(`const { parentPort } = require("node:worker_threads");${program}${code}`, {
    eval: true,
    workerData: path,
  });
}

function nextMessage(worker: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
}

describe("the addon in other environments", () => {
  it("runs tapes in a worker, beside the main thread", async (ctx) => {
    ctx.skip(missing !== "", missing);
    const worker = startWorker(`
      addon.writeBuffer(from, 0, Uint8Array.of(42));
      addon.runTapeAsync(tape).then(() => {
        const target = new Uint8Array(1);
        addon.readBuffer(to, 0, target);
        addon.disposeContext(context);
        parentPort.postMessage(target[0]);
      });
    `);
    const addon = search.addon!;
    const context = addon.createContext(0, 2, null);
    expect(await nextMessage(worker)).toBe(42);
    expect(addon.contextDetail(context)).toContain("2 threads");
    addon.disposeContext(context);
    await worker.terminate();
  });

  it("survives workers that are terminated in mid-flight", async (ctx) => {
    ctx.skip(missing !== "", missing);
    for (let i = 0; i < 12; i++) {
      const worker = startWorker(`
        for (let i = 0; i < 4; i++) addon.runTapeAsync(tape).catch(() => {});
        parentPort.postMessage("running");
      `);
      expect(await nextMessage(worker)).toBe("running");
      await worker.terminate();
    }
    using context = createContext({ device: "cpu" });
    const { x, tape } = doubling(context);
    tape.run();
    expect(floats(x)).toEqual([2, 4, 6, 8]);
  });

  it("lets a process end in mid-flight with its own exit code", (ctx) => {
    ctx.skip(missing !== "", missing);
    for (const [ending, code] of [
      ["process.exit(3);", 3],
      ["setImmediate(() => process.exit(4));", 4],
      ["process.exitCode = 5;", 5],
    ] as const) {
      const program = PROGRAM.replace("PATH", JSON.stringify(path));
      const script = `${program} for (let i = 0; i < 3; i++) addon.runTapeAsync(tape); ${ending}`;
      const { status, signal, stderr } = spawnSync(process.execPath, ["-e", script], { encoding: "utf8" });
      expect({ status, signal, stderr }).toEqual({ status: code, signal: null, stderr: "" });
    }
  });
});
