import { describe, it } from "vitest";
import type { Context, ContextOptions, CpuIsa } from "../../src/context.js";
import { createContext, deviceStatus } from "../../src/create-context.js";

/** A device to test: how to open a context on it, or why that is not possible here. */
export interface TestDevice {
  /** "reference", "cpu-portable", "cpu-avx2", "cpu-avx512", "cpu-amx" or "cuda". */
  readonly name: string;
  readonly open: (options?: Pick<ContextOptions, "threads">) => Context;
  /** Set when the device is absent. */
  readonly missing?: string;
}

const ISAS: readonly CpuIsa[] = ["portable", "avx2", "avx512", "amx"];

function testDevice(name: string, device: "cpu" | "cuda", isa?: CpuIsa): TestDevice {
  const choice = isa === undefined ? {} : { isa };
  const status = deviceStatus(choice).find((entry) => entry.device === device);
  return {
    name,
    open: (options) => createContext({ device, ...choice, ...options }),
    ...(status?.available === false ? { missing: status.reason } : {}),
  };
}

/** Every device that ParisKV has, the oracle first. */
export const devices: readonly TestDevice[] = [
  { name: "reference", open: () => createContext({ device: "reference" }) },
  ...ISAS.map((isa) => testDevice(`cpu-${isa}`, "cpu", isa)),
  testDevice("cuda", "cuda"),
];

/** Whether PARISKV_REQUIRE names a device; "cpu" stands for every instruction set. */
function isRequired(name: string): boolean {
  const required = (process.env.PARISKV_REQUIRE ?? "").split(",");
  return required.includes(name) || required.includes(name.split("-")[0] ?? name);
}

/**
 * Describes the same tests on every device. An absent one is a single test that is skipped with the reason, or fails when
 * PARISKV_REQUIRE names it ("cuda", "cpu", "cpu-avx512", several with commas).
 */
export function describeDevices(title: string, body: (device: TestDevice) => void): void {
  for (const device of devices) {
    describe(`${title}, ${device.name}`, () => {
      if (device.missing === undefined) {
        body(device);
        return;
      }
      it("has its device", (ctx) => {
        if (isRequired(device.name)) throw new Error(`PARISKV_REQUIRE asks for ${device.name}: ${device.missing}`);
        ctx.skip(true, `${device.name}: ${device.missing}`);
      });
    });
  }
}
