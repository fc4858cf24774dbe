import type { DeviceBuffer } from "@pariskv/kernels";
import { PAGE_TOKENS } from "@pariskv/quantizer";
import { recordBytes } from "./geometry.js";
import type { KvMemory } from "./kv-memory.js";
import { ringTokens, type ZoneShape } from "./zones.js";

/** Consecutive rows of a window that hold consecutive positions. */
interface WindowRun {
  readonly firstRow: number;
  readonly firstPosition: number;
  readonly rowCount: number;
}

/** Records of every layer and KV head, `[layers, kvHeads, rows, 2, headDim] kvDtype`: a slot's window or a page. */
interface RecordBlock {
  readonly buffer: DeviceBuffer;
  readonly offsetBytes: number;
  readonly rows: number;
}

/** Queues the copy of positions `[begin, end)`, which are in the window of `fromSlot`, into the window of `toSlot`. */
export function copyWindow(memory: KvMemory, fromSlot: number, toSlot: number, begin: number, end: number): void {
  for (const { firstRow, rowCount } of windowRuns(memory.zones, begin, end)) {
    copyRows(memory, windowOf(memory, fromSlot), firstRow, windowOf(memory, toSlot), firstRow, rowCount);
  }
}

/** Queues the copy of positions `[begin, end)` out of a sequence's pages into the ring of `toSlot`. */
export function restoreWindow(
  memory: KvMemory,
  pageIds: readonly number[],
  toSlot: number,
  begin: number,
  end: number,
): void {
  const { sinkTokens } = memory.zones;
  for (let position = begin; position < end; ) {
    const pageIndex = Math.floor((position - sinkTokens) / PAGE_TOKENS);
    const pageBegin = sinkTokens + pageIndex * PAGE_TOKENS;
    const pageEnd = Math.min(end, pageBegin + PAGE_TOKENS);
    const { buffer, offsetBytes = 0 } = memory.pages.records(pageIds[pageIndex] as number);
    const page = { buffer, offsetBytes, rows: PAGE_TOKENS };
    for (const { firstRow, firstPosition, rowCount } of windowRuns(memory.zones, position, pageEnd)) {
      copyRows(memory, page, firstPosition - pageBegin, windowOf(memory, toSlot), firstRow, rowCount);
    }
    position = pageEnd;
  }
}

/** The rows of positions `[begin, end)`: a run ends where the sink does and where the ring wraps. */
function windowRuns(zones: ZoneShape, begin: number, end: number): WindowRun[] {
  const { sinkTokens } = zones;
  const ringRows = ringTokens(zones);
  const runs: WindowRun[] = [];
  for (let position = begin; position < end; ) {
    const inSink = position < sinkTokens;
    const ringRow = (position - sinkTokens) % ringRows;
    const rowCount = Math.min(end - position, inSink ? sinkTokens - position : ringRows - ringRow);
    runs.push({ firstRow: inSink ? position : sinkTokens + ringRow, firstPosition: position, rowCount });
    position += rowCount;
  }
  return runs;
}

function windowOf({ geometry, zones, cache }: KvMemory, slot: number): RecordBlock {
  const rows = zones.sinkTokens + ringTokens(zones);
  const slotBytes = geometry.layers * geometry.kvHeads * rows * recordBytes(geometry);
  return { buffer: cache.params.window.buffer, offsetBytes: slot * slotBytes, rows };
}

function copyRows(
  { context, geometry }: KvMemory,
  from: RecordBlock,
  fromRow: number,
  to: RecordBlock,
  toRow: number,
  rowCount: number,
): void {
  const rowBytes = recordBytes(geometry);
  for (let head = 0; head < geometry.layers * geometry.kvHeads; head++) {
    context.copy({
      from: { buffer: from.buffer, offsetBytes: from.offsetBytes + (head * from.rows + fromRow) * rowBytes },
      to: { buffer: to.buffer, offsetBytes: to.offsetBytes + (head * to.rows + toRow) * rowBytes },
      bytes: rowCount * rowBytes,
    });
  }
}
