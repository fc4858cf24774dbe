import { createContext, PAGE_ADDRESS, PAGE_ADDRESS_FIELDS } from "@pariskv/kernels";
import { DisposedError, InvalidArgumentError, OutOfMemoryError } from "@pariskv/quantizer";
import { describe, expect, it } from "vitest";
import { PagePool, type PagePoolOptions, pageRecordBytes, pageSummaryBytes } from "../src/index.js";
import { GEOMETRY } from "./support/test-memory.js";
import { trackAllocations } from "./support/track-allocations.js";

function createPool(options: Partial<PagePoolOptions> = {}) {
  const context = createContext({ device: "reference" });
  const allocations = trackAllocations(context);
  const pool = new PagePool({
    context,
    geometry: GEOMETRY,
    capacityPages: 5,
    slabPages: 2,
    summaryKind: "device",
    recordKind: "mapped",
    ...options,
  });
  return { context, allocations, pool };
}

describe("PagePool", () => {
  it("counts references and frees a page with its last one", () => {
    const { pool } = createPool();
    const page = pool.allocate();
    pool.retain(page);
    expect(pool.references(page)).toBe(2);
    pool.release(page);
    expect([pool.references(page), pool.usedPages]).toEqual([1, 1]);
    pool.release(page);
    expect([pool.references(page), pool.usedPages, pool.availablePages]).toEqual([0, 0, 5]);
    expect(pool.allocate()).toBe(page);
  });

  it("gives every page once until all are taken, then refuses with both numbers", () => {
    const { pool } = createPool();
    expect(Array.from({ length: 5 }, () => pool.allocate()).sort()).toEqual([0, 1, 2, 3, 4]);
    const pageBytes = pageSummaryBytes(GEOMETRY) + pageRecordBytes(GEOMETRY);
    expect(() => pool.allocate()).toThrow(
      `Expected the free page pool memory to be at least ${pageBytes} bytes but received 0 bytes.`,
    );
    expect(pool.usedPages).toBe(5);
  });

  it("takes memory slab by slab, the last one cut to the capacity", () => {
    const { pool, allocations } = createPool();
    const slabs = [];
    for (let page = 0; page < 5; page++) {
      pool.allocate();
      slabs.push(pool.allocatedBytes.records / pageRecordBytes(GEOMETRY));
    }
    expect(slabs).toEqual([2, 2, 4, 4, 5]);
    expect(pool.allocatedBytes.summaries).toBe(5 * pageSummaryBytes(GEOMETRY));
    expect(allocations.bytes("mapped")).toBe(pool.allocatedBytes.records);
    expect(allocations.bytes("device")).toBe(pool.allocatedBytes.summaries + pool.addressTable.bytes);
  });

  it("takes slabs ahead of their pages, one a step, and says how far it is", () => {
    const { pool, allocations } = createPool();
    const pageBytes = pageSummaryBytes(GEOMETRY) + pageRecordBytes(GEOMETRY);
    pool.allocate();
    const steps = [];
    for (const { takenBytes, wantedBytes } of pool.reserve(4)) {
      const { summaries, records } = pool.allocatedBytes;
      expect(takenBytes).toBe(summaries + records - 2 * pageBytes);
      steps.push([takenBytes / pageBytes, wantedBytes / pageBytes]);
    }
    expect(steps).toEqual([
      [2, 3],
      [3, 3],
    ]);
    const taken = allocations.live.size;
    expect([...pool.reserve(4)]).toEqual([]);
    expect(Array.from({ length: 4 }, () => pool.allocate())).toEqual([1, 2, 3, 4]);
    expect(allocations.live.size).toBe(taken);
    expect(() => pool.reserve(1).next()).toThrow(OutOfMemoryError);
  });

  it("keeps what a reservation that fails or is given up has taken", () => {
    const { pool, allocations } = createPool();
    expect(pool.reserve(5).next().done).toBe(false);
    expect(pool.allocatedBytes.records).toBe(2 * pageRecordBytes(GEOMETRY));
    allocations.allowed = 3;
    expect(() => [...pool.reserve(5)]).toThrow(OutOfMemoryError);
    expect(pool.allocatedBytes.records).toBe(4 * pageRecordBytes(GEOMETRY));
    expect([pool.usedPages, pool.availablePages]).toEqual([0, 5]);
    allocations.allowed = Number.POSITIVE_INFINITY;
    expect([...pool.reserve(5)]).toHaveLength(1);
    pool.dispose();
    expect(allocations.live.size).toBe(0);
  });

  it("enters the address of every page of a slab, where records() says they lie", () => {
    const { pool } = createPool();
    const ids = Array.from({ length: 5 }, () => pool.allocate());
    const table = new BigUint64Array(5 * PAGE_ADDRESS_FIELDS);
    pool.addressTable.read(0, table);
    const entry = (id: number, field: number) => table[id * PAGE_ADDRESS_FIELDS + field] as bigint;
    for (const id of ids) {
      const { buffer, offsetBytes, layerStrideBytes } = pool.records(id);
      expect(entry(id, PAGE_ADDRESS.RECORDS)).toBe(buffer.address + BigInt(offsetBytes));
      expect(entry(id, PAGE_ADDRESS.RECORD_LAYER_BYTES)).toBe(BigInt(layerStrideBytes));
    }
    const summaries = ids.map((id) => entry(id, PAGE_ADDRESS.SUMMARY));
    expect(new Set(summaries).size).toBe(5);
    expect((summaries[1] as bigint) - (summaries[0] as bigint)).toBe(BigInt(pageSummaryBytes(GEOMETRY)));
  });

  it("lays the pages of a slab side by side for each layer, none over another", () => {
    const { pool } = createPool();
    const layerBytes = pageRecordBytes(GEOMETRY) / GEOMETRY.layers;
    const places = Array.from({ length: 5 }, () => pool.records(pool.allocate()));
    const offsets = places.map(({ offsetBytes }) => offsetBytes / layerBytes);
    const strides = places.map(({ layerStrideBytes }) => layerStrideBytes / layerBytes);
    expect(offsets).toEqual([0, 1, 0, 1, 0]);
    expect(strides).toEqual([2, 2, 2, 2, 1]); // pages of the slab; the last one is cut to the capacity
    const begins = places.flatMap(({ buffer, offsetBytes, layerStrideBytes }) =>
      Array.from({ length: GEOMETRY.layers }, (_, layer) => {
        const begin = offsetBytes + layer * layerStrideBytes;
        expect(begin + layerBytes).toBeLessThanOrEqual(buffer.bytes);
        return buffer.address + BigInt(begin);
      }),
    );
    expect(new Set(begins).size).toBe(5 * GEOMETRY.layers);
  });

  it.each([0, 1])("keeps nothing of a slab whose allocation number %d fails, and can try again", (allowed) => {
    const { pool, allocations } = createPool();
    const before = allocations.live.size;
    allocations.allowed = allowed;
    expect(() => pool.allocate()).toThrow(OutOfMemoryError);
    expect([allocations.live.size, pool.usedPages]).toEqual([before, 0]);
    allocations.allowed = Number.POSITIVE_INFINITY;
    expect(pool.allocate()).toBe(0);
  });

  it("refuses pages that nobody holds", () => {
    const { pool } = createPool();
    const page = pool.allocate();
    pool.release(page);
    for (const use of [() => pool.retain(page), () => pool.release(page), () => pool.records(page)]) {
      expect(use).toThrow("Expected pageId to be a page that is in use but received 0.");
    }
    for (const wrong of [-1, 5, 0.5, Number.NaN]) expect(() => pool.release(wrong)).toThrow(InvalidArgumentError);
    expect(pool.usedPages).toBe(0);
  });

  it.each([
    ["capacityPages", 0],
    ["capacityPages", 2 ** 24 + 1],
    ["slabPages", 0],
    ["slabPages", 1.5],
  ])("refuses %s = %d", (name, value) => {
    expect(() => createPool({ [name]: value })).toThrow(`Expected ${name} to be a whole number`);
  });

  it("gives all memory back, once", () => {
    const { pool, allocations } = createPool();
    pool.allocate();
    pool.dispose();
    pool.dispose();
    expect(allocations.live.size).toBe(0);
    expect(() => pool.addressTable.read(0, new Uint8Array(1))).toThrow(DisposedError);
  });
});
