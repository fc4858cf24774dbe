import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { findAddon } from "../src/native/addon.js";

/** The newest symbol versions that the addon may ask for: those of RHEL 9 and Ubuntu 22.04. */
const FLOORS = { GLIBC: [2, 34], GLIBCXX: [3, 4, 29] } as const;

const objectFolder = fileURLToPath(
  new URL(`../build/${process.platform}-${process.arch}/CMakeFiles/pkv_core.dir/native/src/cpu`, import.meta.url),
);

function run(command: string, args: readonly string[]): string | undefined {
  const { status, stdout } = spawnSync(command, args, { encoding: "utf8", maxBuffer: 2 ** 26 });
  return status === 0 ? stdout : undefined;
}

function isAbove(version: readonly number[], floor: readonly number[]): boolean {
  for (let i = 0; i < Math.max(version.length, floor.length); i++) {
    const difference = (version[i] ?? 0) - (floor[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}

describe("the built addon", () => {
  it("asks for no newer C and C++ libraries than the systems that are supported have", (ctx) => {
    const search = findAddon();
    ctx.skip(process.platform !== "linux", "symbol versions are a matter of Linux");
    if (search.addon === undefined) return ctx.skip(true, `cpu: ${search.reason}`);
    const symbols = run("objdump", ["-T", search.path]);
    if (symbols === undefined) return ctx.skip(true, "objdump is not installed");
    const tooNew = [...symbols.matchAll(/\((GLIBC|GLIBCXX)_([\d.]+)\)\s+(\S+)/g)].filter(([, library, version]) =>
      isAbove(version!.split(".").map(Number), FLOORS[library as keyof typeof FLOORS]),
    );
    expect(symbols).toContain("napi_register_module_v1");
    expect(tooNew.map(([match]) => match)).toEqual([]);
  });

  it("keeps weak symbols out of files that are compiled for one instruction set", (ctx) => {
    ctx.skip(!existsSync(objectFolder), "the addon was not built in this folder");
    const objects = readdirSync(objectFolder, { recursive: true, encoding: "utf8" }).filter((file) =>
      /_avx(2|512)\.cpp\.o$/.test(file),
    );
    ctx.skip(objects.length === 0, "no file is compiled for one instruction set here");
    // The linker keeps one copy of a weak symbol; were it the one for AVX-512, it would run on every CPU.
    for (const object of objects) {
      const symbols = run("nm", ["-C", join(objectFolder, object)]);
      if (symbols === undefined) return ctx.skip(true, "nm is not installed");
      expect(
        symbols.split("\n").filter((line) => / [WVu] /.test(line)),
        object,
      ).toEqual([]);
    }
  });
});
