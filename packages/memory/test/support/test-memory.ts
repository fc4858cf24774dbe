import { type Context, createContext, type DeviceBuffer, type Dtype, type Rows } from "@pariskv/kernels";
import { createQuantizer, PAGE_TOKENS } from "@pariskv/quantizer";
import { expect } from "vitest";
import {
  type KvGeometry,
  KvMemory,
  type KvMemoryOptions,
  ringTokens,
  type SequenceMemory,
  type ZoneShape,
} from "../../src/index.js";

/** A small model: 2 layers, 2 KV heads. */
export const GEOMETRY: KvGeometry = { layers: 2, kvHeads: 2, queryGroup: 1, headDim: 64, kvDtype: "bf16" };
/** The first page is due at 5 + 16 + 512 = 533 tokens. */
export const ZONES: ZoneShape = { sinkTokens: 5, localTokens: 16, chunkTokens: 64 };

/**
 * A KV memory whose tokens can be told apart: K and V of a token are functions of its id, its position, layer and head,
 * small whole numbers that every dtype holds exactly.
 */
export class TestMemory {
  readonly context: Context;
  readonly memory: KvMemory;
  readonly #staging: { readonly k: Rows; readonly v: Rows };
  readonly #rowTable: DeviceBuffer;

  constructor(options: Partial<KvMemoryOptions> = {}) {
    const { geometry = GEOMETRY, zones = ZONES } = options;
    const { signs, levels } = createQuantizer({ headDim: geometry.headDim });
    this.context = options.context ?? createContext({ device: "reference" });
    this.memory = new KvMemory({
      codec: { signs, centres: levels.centersFloat32, thresholds: levels.thresholdsFloat32 },
      slots: 4,
      maxTokens: 4096,
      slabPages: 2,
      countIds: true,
      ...options,
      context: this.context,
      geometry,
      zones,
    });
    const rowStride = geometry.kvHeads * geometry.headDim;
    const stage = () => ({ buffer: this.context.allocate(zones.chunkTokens * rowStride * 4, "device"), rowStride });
    this.#staging = { k: stage(), v: stage() };
    this.#rowTable = this.context.allocate(zones.chunkTokens * 8, "device");
  }

  /** Appends K and V of `ids` at the end of a sequence, at most one chunk, and seals nothing. */
  append(sequence: SequenceMemory, ids: readonly number[]): void {
    const { layers, kvHeads, headDim } = this.memory.geometry;
    const first = sequence.tokens;
    const step = { table: { buffer: this.#rowTable }, rowCount: ids.length };
    this.#rowTable.write(0, Int32Array.from(ids.flatMap((_, index) => [sequence.slot, first + index])));
    for (let layer = 0; layer < layers; layer++) {
      for (const [part, rows] of [this.#staging.k, this.#staging.v].entries()) {
        const values = new Float32Array(ids.length * kvHeads * headDim);
        for (const [index, id] of ids.entries()) {
          for (let head = 0; head < kvHeads; head++) {
            const at = (index * kvHeads + head) * headDim;
            fillHalf(values.subarray(at, at + headDim), id, first + index, layer * kvHeads + head, part);
          }
        }
        rows.buffer.write(0, values);
      }
      this.context.append({ cache: this.memory.cache, layer, step, ...this.#staging });
    }
    sequence.advance(ids.length);
  }

  /** Appends any number of tokens, chunk by chunk, and seals what is due after each. */
  grow(sequence: SequenceMemory, ids: readonly number[]): void {
    const { chunkTokens } = this.memory.zones;
    for (let first = 0; first < ids.length; first += chunkTokens) {
      const chunk = ids.slice(first, first + chunkTokens);
      sequence.prepareAppend(chunk.length);
      this.append(sequence, chunk);
      sequence.flush();
    }
  }

  /** A new sequence of `ids`. */
  build(ids: readonly number[]): SequenceMemory {
    const sequence = this.memory.createSequence();
    this.grow(sequence, ids);
    return sequence;
  }

  /** Asserts that a sequence holds exactly `ids`, wherever each of them lies. */
  expectTokens(sequence: SequenceMemory, ids: readonly number[]): void {
    expect(sequence.tokens).toBe(ids.length);
    const { layers, kvHeads, headDim, kvDtype } = this.memory.geometry;
    const { sink, zone, ring } = sequence.counts;
    expect(sink + zone + ring).toBe(ids.length);
    for (let head = 0; head < layers * kvHeads; head++) {
      const expected = new Float32Array(ids.length * 2 * headDim);
      for (const [position, id] of ids.entries()) {
        for (const part of [0, 1]) {
          const at = (2 * position + part) * headDim;
          fillHalf(expected.subarray(at, at + headDim), id, position, head, part);
        }
      }
      const found = widen(this.#readHead(sequence, head), kvDtype);
      const wrong = found.findIndex((value, index) => value !== expected[index]);
      expect(wrong, `the first wrong element of layer and head ${head}`).toBe(-1);
    }
  }

  /** What the operators know of a sequence beside its tokens: zone length, id counts and invalid keys. */
  tables(sequence: SequenceMemory): { zoneTokens: number; idCounts: Uint32Array; invalidKeys: Uint32Array } {
    const { zoneTokens, idCounts } = this.memory.cache.params;
    const zone = new Int32Array(1);
    zoneTokens.buffer.read(4 * sequence.slot, zone);
    const { layers, kvHeads, headDim } = this.memory.geometry;
    const counts = new Uint32Array(layers * kvHeads * (headDim / 8) * 256);
    idCounts?.buffer.read(sequence.slot * counts.byteLength, counts);
    const invalidKeys = this.memory.readInvalidKeys(sequence.slot);
    return { zoneTokens: zone[0] as number, idCounts: counts, invalidKeys };
  }

  /** Records of every position in order, `[tokens, 2, headDim]`, from sink, pages and ring. */
  #readHead(sequence: SequenceMemory, head: number): Uint8Array {
    const { layers, kvHeads, headDim, kvDtype } = this.memory.geometry;
    const { sinkTokens } = this.memory.zones;
    const recordBytes = 2 * headDim * (kvDtype === "f32" ? 4 : 2);
    const ringRows = ringTokens(this.memory.zones);
    const windowBytes = (sinkTokens + ringRows) * recordBytes;
    const window = new Uint8Array(windowBytes);
    this.memory.cache.params.window.buffer.read((sequence.slot * layers * kvHeads + head) * windowBytes, window);
    const pages = sequence.pages.map((pageId) => {
      const page = new Uint8Array(PAGE_TOKENS * recordBytes);
      const { buffer, offsetBytes, layerStrideBytes } = this.memory.pages.records(pageId);
      const layer = Math.floor(head / kvHeads);
      buffer.read(offsetBytes + layer * layerStrideBytes + (head % kvHeads) * page.byteLength, page);
      return page;
    });
    const bytes = new Uint8Array(sequence.tokens * recordBytes);
    for (let position = 0; position < sequence.tokens; position++) {
      const behindSink = position - sinkTokens;
      const inZone = behindSink >= 0 && behindSink < sequence.zoneTokens;
      const source = inZone ? (pages[Math.floor(behindSink / PAGE_TOKENS)] as Uint8Array) : window;
      let row = position;
      if (inZone) row = behindSink % PAGE_TOKENS;
      else if (behindSink >= 0) row = sinkTokens + (behindSink % ringRows);
      bytes.set(source.subarray(row * recordBytes, (row + 1) * recordBytes), position * recordBytes);
    }
    return bytes;
  }
}

/** The ids `first, first + 1, …`: a text that another first id shares nothing with. */
export function text(tokens: number, first = 0): number[] {
  return Array.from({ length: tokens }, (_, index) => first + index);
}

/** K (part 0) or V (part 1) of a token: whole numbers from -63 to 63, never all zero. */
function fillHalf(half: Float32Array, id: number, position: number, head: number, part: number): void {
  let state =
    Math.imul(id, 0x9e3779b1) ^ Math.imul(position + 1, 0x85ebca6b) ^ Math.imul(2 * head + part + 1, 0xc2b2ae35);
  for (let j = 0; j < half.length; j++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    half[j] = ((state >>> 16) % 127) - 63;
  }
}

function widen(bytes: Uint8Array, dtype: Dtype): Float32Array {
  if (dtype === "f32") return new Float32Array(bytes.buffer);
  if (dtype === "f16") throw new RangeError("f16 is not tested here");
  const narrow = new Uint16Array(bytes.buffer);
  const wide = new Uint32Array(narrow.length);
  for (let i = 0; i < narrow.length; i++) wide[i] = (narrow[i] as number) << 16;
  return new Float32Array(wide.buffer);
}
