import { describe, expect, it } from "vitest";
import { fnv1a32, printFiles, printHeader } from "../spec-header.mjs";

const moduleOf = (values: Record<string, unknown>) => ({
  path: "spec.ts",
  source: Object.keys(values)
    .map((name) => `export const ${name} = …;`)
    .join("\n"),
  values,
});
const definesOf = (values: Record<string, unknown>) =>
  [...printHeader([moduleOf(values)]).header.matchAll(/^#define (PKV_.*)$/gm)]
    .map(([, line]) => line)
    .filter((line) => line !== "PKV_SPEC_H" && !line?.startsWith("PKV_SPEC_FINGERPRINT"));

describe("the C header of the constants", () => {
  it("hashes as FNV-1a with 32 bits does", () => {
    // The published test vectors of the hash.
    expect(fnv1a32("")).toBe(0x811c9dc5);
    expect(fnv1a32("a")).toBe(0xe40c292c);
    expect(fnv1a32("foobar")).toBe(0xbf9cf968);
  });

  it("prints numbers, arrays and records in the order of the source", () => {
    expect(definesOf({ PAGE_TOKENS: 512, DTYPE: { F32: 0, halfWidth: 1 }, ANCHORS: [1, 2] })).toEqual([
      "PKV_PAGE_TOKENS 512",
      "PKV_DTYPE_F32 0",
      "PKV_DTYPE_HALF_WIDTH 1",
      "PKV_ANCHORS { 1, 2 }",
      "PKV_ANCHORS_COUNT 2",
    ]);
  });

  it("gives every literal the sign and the width that C needs", () => {
    expect(definesOf({ A: -1, B: 2 ** 31 - 1, C: 2 ** 31, D: 0.25, E: -0.5 })).toEqual([
      "PKV_A (-1)",
      "PKV_B 2147483647",
      "PKV_C 2147483648u",
      "PKV_D 0.25",
      "PKV_E (-0.5)",
    ]);
  });

  it("leaves out functions and texts", () => {
    expect(definesOf({ A: 1, print: () => 2, NAME: "three" })).toEqual(["PKV_A 1"]);
  });

  it("refuses a number that C cannot hold and two constants with one macro", () => {
    expect(() => definesOf({ A: 2 ** 32 })).toThrow("Expected A to fit 32 bits but received 4294967296.");
    expect(() => definesOf({ A: { B: Number.NaN } })).toThrow("Expected A.B to be a finite number but received NaN.");
    expect(() => definesOf({ A: { B: 1 }, A_B: 2 })).toThrow("PKV_A_B is defined twice");
  });

  it("has a fingerprint that stays with the same constants and moves with any other", () => {
    const { fingerprint, header } = printHeader([moduleOf({ A: 1, B: 2 })]);
    expect(fingerprint).toBe(0x924fd3c9);
    expect(header).toContain("#define PKV_SPEC_FINGERPRINT 0x924fd3c9u");
    expect(printHeader([moduleOf({ A: 1, B: 2 })]).fingerprint).toBe(fingerprint);
    expect(printHeader([moduleOf({ A: 1, B: 3 })]).fingerprint).not.toBe(fingerprint);
    expect(printHeader([moduleOf({ B: 2, A: 1 })]).fingerprint).not.toBe(fingerprint);
  });

  it("prints the page layouts of every head dimension, which the C side asserts", async () => {
    const [header = "", typescript = ""] = [...(await printFiles()).values()];
    for (const [headDim, bytesPerKey] of [
      [64, 48],
      [128, 96],
      [256, 192],
    ])
      expect(header).toContain(`#define PKV_SUMMARY_${headDim}_BYTES_PER_KEY ${bytesPerKey}\n`);
    const fingerprint = /PKV_SPEC_FINGERPRINT (0x[0-9a-f]{8})u/.exec(header)?.[1];
    expect(typescript).toContain(`export const SPEC_FINGERPRINT = ${fingerprint};`);
  });
});
