import { describe, expect, it } from "vitest";
import {
  BackendUnavailableError,
  DeviceError,
  DisposedError,
  InvalidArgumentError,
  ModelFileError,
  OutOfMemoryError,
  ParisKVError,
  SpecMismatchError,
  UnsupportedError,
} from "../src/index.js";

const family = [
  {
    error: new InvalidArgumentError({ argument: "--retrieval-k", expected: "a whole number", received: 0.5 }),
    Type: InvalidArgumentError,
    message: "Expected --retrieval-k to be a whole number but received 0.5.",
  },
  {
    error: new UnsupportedError({ feature: "a head dimension of 96" }),
    Type: UnsupportedError,
    message: "Expected the request to be a supported one but received a head dimension of 96.",
  },
  {
    error: new BackendUnavailableError({ backend: "cuda", reason: "no driver" }),
    Type: BackendUnavailableError,
    message: "Expected the cuda backend to be available but received no driver.",
  },
  {
    error: new OutOfMemoryError({ kind: "pinned", requestedBytes: 2048, availableBytes: 1024 }),
    Type: OutOfMemoryError,
    message: "Expected the free pinned memory to be at least 2048 bytes but received 1024 bytes.",
  },
  {
    error: new DeviceError({ device: "cuda:0", detail: "an illegal address" }),
    Type: DeviceError,
    message: "Expected device cuda:0 to be working but received an illegal address.",
  },
  {
    error: new SpecMismatchError({ expected: 17, received: "none" }),
    Type: SpecMismatchError,
    message: "Expected the specification to be 17 but received none.",
  },
  {
    error: new ModelFileError({ path: "config.json", expected: "a JSON object", received: "an array" }),
    Type: ModelFileError,
    message: "Expected config.json to be a JSON object but received an array.",
  },
  {
    error: new DisposedError({ object: "context" }),
    Type: DisposedError,
    message: "Expected the context to be in use but received a disposed one.",
  },
];

describe("the family of errors", () => {
  it("speaks in one sentence form", () => {
    for (const { error, message } of family) expect(error.message).toBe(message);
  });

  it("recognises each error as itself, as one of the family, and as no other child", () => {
    for (const { error, Type } of family) {
      expect(ParisKVError.isInstance(error)).toBe(true);
      expect(error).toBeInstanceOf(Error);
      expect(error.name).toBe(Type.name);
      expect(family.filter((other) => other.Type.isInstance(error)).map((other) => other.Type)).toEqual([Type]);
    }
    expect(new Set(family.map(({ error }) => error.code)).size).toBe(family.length);
  });

  it("recognises the errors of another copy of the package", () => {
    const foreign = Object.assign(new Error("from elsewhere"), { code: "PARISKV_DISPOSED" });
    expect(DisposedError.isInstance(foreign)).toBe(false);
    Object.defineProperty(foreign, Symbol.for("pariskv.error"), { value: true });
    expect(DisposedError.isInstance(foreign)).toBe(true);
  });

  it("recognises nothing that is not an error of the family", () => {
    for (const value of [undefined, null, 7, "text", {}, new Error("plain")]) {
      expect(ParisKVError.isInstance(value)).toBe(false);
    }
  });

  it("keeps the cause, and has none when none was given", () => {
    const cause = new Error("first");
    expect(new DeviceError({ device: "cpu", detail: "a fault", cause }).cause).toBe(cause);
    expect("cause" in new DeviceError({ device: "cpu", detail: "a fault" })).toBe(false);
  });

  it("keeps typed fields and the place in a file", () => {
    const error = new ModelFileError({
      path: "model.safetensors",
      offsetBytes: 8,
      expected: "a header",
      received: "nothing",
    });
    expect(error).toMatchObject({ path: "model.safetensors", offsetBytes: 8, expected: "a header" });
    expect(error.message).toBe("Expected model.safetensors at byte 8 to be a header but received nothing.");
  });

  it("describes any received value in a short phrase", () => {
    const cases: readonly (readonly [unknown, string])[] = [
      ["text", '"text"'],
      ["x".repeat(100), `"${"x".repeat(77)}..."`],
      [-0, "-0"],
      [Number.NaN, "NaN"],
      [undefined, "undefined"],
      [null, "null"],
      [12n, "12n"],
      [Symbol("s"), "Symbol(s)"],
      [() => 1, "a function"],
      [[1, 2], "an array of 2 elements"],
      [new Uint8Array(3), "Uint8Array of 3 elements"],
      [new DataView(new ArrayBuffer(4)), "DataView of 4 bytes"],
      [new Map(), "an object of type Map"],
      [Object.create(null), "an object of type null"],
    ];
    for (const [received, phrase] of cases) {
      const error = new InvalidArgumentError({ argument: "it", expected: "right", received });
      expect(error.message).toBe(`Expected it to be right but received ${phrase}.`);
      expect(error.received).toBe(received);
    }
  });
});
