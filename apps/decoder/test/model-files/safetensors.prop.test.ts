import { ModelFileError } from "@pariskv/quantizer";
import fc from "fast-check";
import { expect, it } from "vitest";
import { ELEMENT_BYTES, type ElementType, parseSafetensorsHeader } from "../../src/model-files/safetensors-header.js";
import { entry } from "./safetensors-bytes.js";

const SEED = 20_260;
console.info(`safetensors properties: seed ${SEED}`);

interface Layout {
  readonly names: readonly string[];
  readonly types: readonly ElementType[];
  readonly shapes: readonly (readonly number[])[];
  readonly order: readonly number[];
}

const layouts: fc.Arbitrary<Layout> = fc
  .uniqueArray(fc.stringMatching(/^[a-z_.0-9]{1,20}$/), { minLength: 1, maxLength: 8 })
  .filter((names) => names.every((name) => name !== ".." && name !== "__proto__" && name !== "__metadata__"))
  .chain((names) =>
    fc.record({
      names: fc.constant(names),
      types: fc.array(fc.constantFrom(...(Object.keys(ELEMENT_BYTES) as ElementType[])), {
        minLength: names.length,
        maxLength: names.length,
      }),
      shapes: fc.array(fc.array(fc.nat({ max: 5 }), { maxLength: 4 }), {
        minLength: names.length,
        maxLength: names.length,
      }),
      order: fc.shuffledSubarray(
        names.map((_, index) => index),
        { minLength: names.length },
      ),
    }),
  );

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: number[] }>;

/** Lays the tensors out one behind the other in the order of their names, and writes the header in another. */
function headerOf({ names, types, shapes, order }: Layout): { header: Header; dataBytes: number } {
  let dataBytes = 0;
  const entries = names.map((_, index) => {
    const type = types[index] ?? "U8";
    const shape = [...(shapes[index] ?? [])];
    const begin = dataBytes;
    dataBytes += shape.reduce((product, size) => product * size, ELEMENT_BYTES[type]);
    return entry(type, shape, begin, dataBytes);
  });
  const header: Header = {};
  for (const index of order) header[names[index] ?? ""] = entries[index] as Header[string];
  return { header, dataBytes };
}

function parse(header: object, dataBytes: number) {
  const bytes = Buffer.from(JSON.stringify(header));
  return parseSafetensorsHeader(bytes, "generated", 8 + bytes.length + dataBytes);
}

/** The format's rules written a second time, by bitmap instead of by order: every byte belongs to exactly one tensor. */
function isValid(header: Header, dataBytes: number): boolean {
  const owners = new Uint8Array(dataBytes);
  const boundaries: number[] = [];
  for (const { dtype, shape, data_offsets } of Object.values(header)) {
    const [begin = -1, end = -1] = data_offsets;
    const numbers = [...shape, begin, end];
    if (!numbers.every((number) => Number.isInteger(number) && number >= 0) || begin > end || end > dataBytes)
      return false;
    let product = 1n;
    for (const factor of [...shape, ELEMENT_BYTES[dtype as ElementType]]) {
      product *= BigInt(factor);
      if (product >= 2n ** 53n) return false; // also when a later factor is 0
    }
    if (product !== BigInt(end - begin)) return false;
    for (let byte = begin; byte < end; byte += 1) owners[byte] = (owners[byte] ?? 0) + 1;
    boundaries.push(begin, end);
  }
  // An empty tensor owns no byte, but must stand between two tensors, not inside one.
  const inside = (place: number) =>
    Object.values(header).some(({ data_offsets: [begin = 0, end = 0] }) => begin < place && place < end);
  return owners.every((count) => count === 1) && !boundaries.some(inside);
}

it("every valid layout is read, each tensor in its place", () => {
  fc.assert(
    fc.property(layouts, (layout) => {
      const { header, dataBytes } = headerOf(layout);
      const { tensors } = parse(header, dataBytes);
      expect([...tensors.keys()].sort()).toEqual(Object.keys(header).sort());
      const dataStart = 8 + Buffer.byteLength(JSON.stringify(header));
      for (const [name, { data_offsets, shape }] of Object.entries(header)) {
        const [begin = 0, end = 0] = data_offsets;
        expect(tensors.get(name)).toMatchObject({ offsetBytes: dataStart + begin, sizeBytes: end - begin, shape });
      }
    }),
    { numRuns: 2_000, seed: SEED },
  );
});

const damages: fc.Arbitrary<{ tensor: number; field: number; change: number; rest: number }> = fc.record({
  tensor: fc.nat({ max: 7 }),
  field: fc.nat({ max: 5 }),
  change: fc.constantFrom(-3, -2, -1, 1, 2, 3, 255, 2 ** 31, 2 ** 32, 2 ** 52),
  rest: fc.constantFrom(-1, 0, 0, 0, 1),
});

it("a layout with one number changed is accepted exactly when a second reading of the rules accepts it", () => {
  let accepted = 0;
  let refused = 0;
  fc.assert(
    fc.property(layouts, damages, (layout, { tensor, field, change, rest }) => {
      const { header, dataBytes } = headerOf(layout);
      const damaged = Object.values(header)[tensor % layout.names.length] as Header[string];
      const list = field < 2 ? damaged.data_offsets : damaged.shape;
      const index = list.length === 0 ? 0 : field % list.length;
      if (list.length > 0) list[index] = (list[index] ?? 0) + change;
      const realBytes = Math.max(0, dataBytes + rest);
      const wanted = isValid(header, realBytes);
      try {
        parse(header, realBytes);
        accepted += 1;
        expect(wanted).toBe(true);
      } catch (error) {
        if (!(error instanceof ModelFileError)) throw error;
        refused += 1;
        expect(wanted).toBe(false);
      }
    }),
    { numRuns: 5_000, seed: SEED },
  );
  expect(accepted).toBeGreaterThan(50);
  expect(refused).toBeGreaterThan(1_000);
});

it("arbitrary JSON and arbitrary bytes are refused with the typed error or read, never anything else", () => {
  const bytes = fc.oneof(
    fc.json().map((text) => Buffer.from(text)),
    fc.json().map((text) => Buffer.from(`{"a":${text},"__metadata__":${text}}`)),
    fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array)),
    fc.string({ unit: "binary", maxLength: 100 }).map((text) => Buffer.from(`{"${text}`)),
  );
  fc.assert(
    fc.property(bytes, fc.nat({ max: 64 }), (header, dataBytes) => {
      try {
        parseSafetensorsHeader(header, "generated", 8 + header.length + dataBytes);
      } catch (error) {
        expect(error).toBeInstanceOf(ModelFileError);
      }
    }),
    { numRuns: 5_000, seed: SEED },
  );
});
