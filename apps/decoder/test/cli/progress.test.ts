import { describe, expect, it } from "vitest";
import { Progress } from "../../src/cli/progress.js";
import { fakeIo } from "./fake-io.js";

describe("Progress", () => {
  it("writes a few plain lines to stderr when it is no terminal", () => {
    const io = fakeIo();
    const progress = new Progress(io, "load", 1_000);
    for (let step = 0; step < 1_000; step += 1) progress.add(1);
    progress.finish("1000 tokens");
    expect(io.notices()).toBe("load 25 %\nload 50 %\nload 75 %\nload 100 %\nload: 1000 tokens\n");
    expect(io.output()).toBe("");
  });

  it("rewrites one line on a terminal and clears it at the end", () => {
    const io = fakeIo({ terminal: true });
    const progress = new Progress(io, "prefill", 3);
    progress.add(1);
    progress.add(2);
    progress.finish("done");
    expect(io.notices()).toBe("\rprefill 33.3 %\rprefill 100.0 %\r\u001b[Kprefill: done\n");
  });

  it("shows at most 100 % and nothing after its end", () => {
    const io = fakeIo();
    const progress = new Progress(io, "load", 10);
    progress.add(50);
    progress.finish("done");
    progress.finish("again");
    progress.add(1);
    expect(io.notices()).toBe("load 100 %\nload: done\n");
  });
});
