export type { FlushState } from "./flush.js";
export { Flush } from "./flush.js";
export type { KvGeometry } from "./geometry.js";
export {
  checkGeometry,
  dtypeBytes,
  kvBytesPerToken,
  pageRecordBytes,
  pageSummaryBytes,
  recordBytes,
  summaryBytesPerToken,
} from "./geometry.js";
export type { KvMemoryBytes, KvMemoryOptions } from "./kv-memory.js";
export { KvMemory } from "./kv-memory.js";
export { hotLinesFor, MOST_SEQUENCE_TOKENS, MOST_SLOTS, pagesPerSequence, windowBytesPerSlot } from "./memory-sizes.js";
export type { PagePoolOptions, PageRecords, PageReservation } from "./page-pool.js";
export { PagePool } from "./page-pool.js";
export type { MemoryFit, MemoryLimits, MemoryPlan, MemoryPlanLine, MemoryPlanRequest } from "./planner.js";
export { fitMemory, longestContext, planMemory, requireFit } from "./planner.js";
export type { SlotAccess } from "./sequence-memory.js";
export { SequenceMemory } from "./sequence-memory.js";
export type { ZoneCounts, ZoneShape } from "./zones.js";
export { checkZones, ringTokens, sealedPages, zoneCounts } from "./zones.js";
