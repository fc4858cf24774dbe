import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BackendUnavailableError, InvalidArgumentError, SpecMismatchError } from "@pariskv/quantizer";
import { afterEach, describe, expect, it, vi } from "vitest";
import { createContext, deviceStatus } from "../src/create-context.js";
import { ABI_VERSION } from "../src/layout.js";
import { findAddon } from "../src/native/addon.js";
import { SPEC_FINGERPRINT } from "../src/spec-fingerprint.js";

const search = findAddon();
const missing = search.addon === undefined ? `cpu: ${search.reason}` : "";

afterEach(() => {
  vi.unstubAllEnvs();
});

/** The module as a program sees it that starts with PARISKV_ADDON set; errors are of that program's own classes. */
async function withAddon(path: string): Promise<typeof import("../src/create-context.js")> {
  vi.stubEnv("PARISKV_ADDON", path);
  vi.resetModules();
  return import("../src/create-context.js");
}

describe("createContext", () => {
  it("refuses options that it does not know", () => {
    for (const options of [
      { device: "gpu" },
      { threads: 0 },
      { threads: 1.5 },
      { threads: 5000 },
      { isa: "sse9" },
    ] as object[]) {
      expect(() => createContext(options)).toThrow(InvalidArgumentError);
    }
  });

  it("takes the CPU before plain TypeScript, with as many threads as it is told", (ctx) => {
    ctx.skip(missing !== "", missing);
    using context = createContext({ threads: 3 });
    expect(["cpu", "cuda"]).toContain(context.device);
    using cpu = createContext({ device: "cpu", threads: 3 });
    expect(cpu.detail).toMatch(/^(portable|avx2|avx512|amx), 3 threads$/);
  });

  it("uses the instruction set that is asked for, by option before environment", (ctx) => {
    ctx.skip(missing !== "", missing);
    vi.stubEnv("PARISKV_CPU_ISA", "portable");
    using fromEnvironment = createContext({ device: "cpu", threads: 1 });
    expect(fromEnvironment.detail).toBe("portable, 1 thread");
    for (const isa of ["portable", "avx2", "avx512", "amx"] as const) {
      const status = deviceStatus({ isa }).find(({ device }) => device === "cpu");
      if (status?.available !== true) {
        expect(() => createContext({ device: "cpu", isa })).toThrow(BackendUnavailableError);
        continue;
      }
      using context = createContext({ device: "cpu", isa, threads: 1 });
      expect(context.detail).toBe(`${isa}, 1 thread`);
    }
  });

  it("throws when the environment asks for an instruction set that is not there, and takes no other", (ctx) => {
    ctx.skip(missing !== "", missing);
    vi.stubEnv("PARISKV_CPU_ISA", "sse9");
    expect(() => createContext({ device: "cpu" })).toThrow(BackendUnavailableError);
    expect(() => createContext({ device: "cpu" })).toThrow("sse9");
    expect(deviceStatus().find(({ device }) => device === "cpu")).toMatchObject({ available: false });
  });

  it("refuses CUDA in a build without it, with the reason", (ctx) => {
    ctx.skip(missing !== "", missing);
    const status = deviceStatus().find(({ device }) => device === "cuda");
    ctx.skip(status?.available === true, "cuda: a device is present");
    expect(() => createContext({ device: "cuda" })).toThrow(BackendUnavailableError);
  });

  it("falls back to plain TypeScript without an addon, and says why the devices are missing", async () => {
    const { createContext, deviceStatus } = await withAddon("/nowhere/kernels.node");
    using context = createContext();
    expect(context.device).toBe("reference");
    for (const device of ["cpu", "cuda"] as const) {
      const status = deviceStatus().find((entry) => entry.device === device);
      expect(status).toMatchObject({ available: false, reason: expect.stringContaining("/nowhere/kernels.node") });
      expect(() => createContext({ device })).toThrow(
        expect.objectContaining({ code: "PARISKV_BACKEND_UNAVAILABLE", backend: device }),
      );
    }
    expect(() => createContext({ isa: "portable" })).toThrow(
      expect.objectContaining({ code: "PARISKV_BACKEND_UNAVAILABLE" }),
    );
  });

  it("does not use an addon that was built from other constants", async () => {
    const folder = mkdtempSync(join(tmpdir(), "pariskv-"));
    try {
      for (const [abiVersion, specFingerprint] of [
        [ABI_VERSION + 1, SPEC_FINGERPRINT],
        [ABI_VERSION, SPEC_FINGERPRINT ^ 1],
      ]) {
        const path = join(folder, `other-${abiVersion}.cjs`);
        writeFileSync(path, `module.exports = ${JSON.stringify({ abiVersion, specFingerprint })};`);
        const { createContext, deviceStatus } = await withAddon(path);
        const expected = expect.objectContaining({ code: "PARISKV_SPEC_MISMATCH" });
        expect(() => createContext({ device: "cpu" })).toThrow(expected);
        expect(deviceStatus()[1]).toMatchObject({
          available: false,
          reason: expect.stringContaining("Expected the specification to be ABI"),
        });
        using context = createContext();
        expect(context.device).toBe("reference");
      }
      expect(new SpecMismatchError({ expected: 1, received: 2 }).code).toBe("PARISKV_SPEC_MISMATCH");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("the addon", () => {
  it("was built from the constants of this package", (ctx) => {
    ctx.skip(missing !== "", missing);
    expect(search.addon).toMatchObject({ abiVersion: ABI_VERSION, specFingerprint: SPEC_FINGERPRINT });
  });

  it("refuses values that are no handles, and handles of another kind", (ctx) => {
    ctx.skip(missing !== "", missing);
    const addon = search.addon!;
    const context = addon.createContext(0, 1, null);
    const buffer = addon.createBuffer(context, 64, 0);
    const calls = [
      () => addon.createBuffer({}, 64, 0),
      () => addon.createBuffer(buffer, 64, 0),
      () => addon.createBuffer(undefined as unknown as object, 64, 0),
      () => addon.bufferAddress(context),
      () => addon.runTape(buffer),
      () => addon.collide(context, buffer, 0, buffer, 0, 1),
      () => addon.disposeContext(buffer),
      () => addon.createBuffer(context, -1, 0),
      () => addon.createBuffer(context, 2 ** 60, 0),
      () => addon.createBuffer(context, "64" as unknown as number, 0),
      () => addon.writeBuffer(buffer, 0, [1] as unknown as Uint8Array),
      () => addon.createContext(0, 1, 5 as unknown as string),
      () => (addon.copy as (...args: unknown[]) => void)(context),
    ];
    for (const call of calls) expect(call).toThrow(expect.objectContaining({ status: 1 }));
    addon.disposeBuffer(buffer);
    addon.disposeBuffer(buffer);
    expect(() => addon.bufferAddress(buffer)).toThrow(expect.objectContaining({ status: 6, argument: "buffer" }));
    addon.disposeContext(context);
    addon.disposeContext(context);
    expect(() => addon.synchronize(context)).toThrow(expect.objectContaining({ status: 6, argument: "context" }));
  });
});
