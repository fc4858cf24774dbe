import {
  BackendUnavailableError,
  DeviceError,
  DisposedError,
  InvalidArgumentError,
  ModelFileError,
  OutOfMemoryError,
  SpecMismatchError,
  UnsupportedError,
} from "@pariskv/quantizer";
import { describe, expect, it, vi } from "vitest";
import { type Action, isolateEnvironment, run } from "./fake-run.js";

isolateEnvironment();

describe("exit codes", () => {
  const failing = (error: unknown): Action => {
    return () => {
      throw error;
    };
  };

  it("a command's own code is the program's", async () => {
    expect((await run(["doctor"], () => 0)).code).toBe(0);
    expect((await run(["doctor"], () => 3)).code).toBe(3);
  });

  it.each<[number, Error]>([
    [1, new Error("plain failure")],
    [1, new UnsupportedError({ feature: "rope scaling of type yarn" })],
    [1, new DeviceError({ device: "cuda:0", detail: "an illegal address" })],
    [1, new SpecMismatchError({ expected: 1, received: 2 })],
    [1, new DisposedError({ object: "context" })],
    [2, new InvalidArgumentError({ argument: "x", expected: "y", received: 0 })],
    [3, new OutOfMemoryError({ kind: "device", requestedBytes: 2, availableBytes: 1 })],
    [4, new BackendUnavailableError({ backend: "cuda", reason: "no driver" })],
    [5, new ModelFileError({ path: "model", expected: "a model", received: "a folder" })],
  ])("%i for %s, with one sentence and no stack trace", async (code, error) => {
    const result = await run(["doctor"], failing(error));
    expect(result.code).toBe(code);
    expect(result.output).toBe("");
    expect(result.notices).toMatch(/^[^\n]+\.\n$/);
    expect(result.notices).toContain(error.message);
    expect(result.notices).not.toContain("    at ");
  });

  it("a message of several lines becomes one, and something that is no Error is told, too", async () => {
    expect((await run(["doctor"], failing(new Error("one\n  two")))).notices).toBe("one two.\n");
    expect((await run(["doctor"], failing("text"))).notices).toBe("text.\n");
    expect((await run(["doctor"], failing(undefined))).code).toBe(1);
  });

  it("a message cannot command the terminal", async () => {
    const { notices } = await run(["doctor"], failing(new Error("a\u001b[31mb\u0000c\u009bd")));
    expect(notices).toBe("a\uFFFD[31mb\uFFFDc\uFFFDd.\n");
  });

  it("an interrupt gives 130, whether the command throws or returns", async () => {
    const returning: Action = (io) => {
      io.interrupt();
      return 0;
    };
    expect(await run(["doctor"], returning)).toMatchObject({ code: 130, notices: "" });
    const aborted = failing(new DOMException("aborted", "AbortError"));
    expect(await run(["doctor"], aborted)).toMatchObject({ code: 130, notices: "" });
  });

  it("PARISKV_DEBUG=1 shows the stack and the cause", async () => {
    vi.stubEnv("PARISKV_DEBUG", "1");
    const { notices, code } = await run(["doctor"], failing(new Error("outer", { cause: new Error("inner") })));
    expect(code).toBe(1);
    expect(notices).toContain("    at ");
    expect(notices).toContain("Caused by: Error: inner");
  });
});
