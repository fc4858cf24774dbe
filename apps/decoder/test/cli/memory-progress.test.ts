import { expect, it } from "vitest";
import { MemoryProgress } from "../../src/cli/memory-progress.js";
import { fakeIo } from "./fake-io.js";

const GIB = 2 ** 30;

it("shows how far much memory has been taken, and closes with its size and the time", () => {
  const io = fakeIo();
  const progress = new MemoryProgress(io);
  for (let slab = 1; slab <= 8; slab++) progress.show({ takenBytes: slab * GIB, wantedBytes: 8 * GIB });
  expect(io.notices()).toMatch(
    /^memory 25 %\nmemory 50 %\nmemory 75 %\nmemory 100 %\nmemory: 8\.0 GiB in \d+\.\d s\n$/,
  );
});

it("says nothing of little memory", () => {
  const io = fakeIo();
  const progress = new MemoryProgress(io);
  for (let slab = 1; slab <= 3; slab++) progress.show({ takenBytes: slab * GIB, wantedBytes: 3 * GIB });
  expect(io.notices()).toBe("");
});
