import { PAGE_TOKENS } from "@pariskv/quantizer";
import { recordBytes } from "./geometry.js";
import type { KvMemory } from "./kv-memory.js";
import type { PageRecords } from "./page-pool.js";
import { ringTokens, type ZoneShape } from "./zones.js";

/** Consecutive rows of a window that hold consecutive positions. */
interface WindowRun {
  readonly firstRow: number;
  readonly firstPosition: number;
  readonly rowCount: number;
}

/** Records of every layer, of each `[kvHeads, rows, 2, headDim] kvDtype`: a slot's window or a page. */
interface RecordBlock extends PageRecords {
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
    const page = { ...memory.pages.records(pageIds[pageIndex] as number), rows: PAGE_TOKENS };
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
  const layerStrideBytes = geometry.kvHeads * rows * recordBytes(geometry);
  const offsetBytes = slot * geometry.layers * layerStrideBytes;
  return { buffer: cache.params.window.buffer, offsetBytes, layerStrideBytes, rows };
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
  for (let layer = 0; layer < geometry.layers; layer++) {
    const fromLayer = from.offsetBytes + layer * from.layerStrideBytes;
    const toLayer = to.offsetBytes + layer * to.layerStrideBytes;
    for (let head = 0; head < geometry.kvHeads; head++) {
      context.copy({
        from: { buffer: from.buffer, offsetBytes: fromLayer + (head * from.rows + fromRow) * rowBytes },
        to: { buffer: to.buffer, offsetBytes: toLayer + (head * to.rows + toRow) * rowBytes },
        bytes: rowCount * rowBytes,
      });
    }
  }
}
