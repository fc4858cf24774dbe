import type { Rows, Step } from "../context.js";
import type { Matrix } from "../dense/index.js";
import { ROW, ROW_FIELDS } from "../layout.js";
import type { ReferenceMemory } from "./reference-memory.js";

/** f32 rows: row r begins at element `r * rowStride` of `data`. */
export interface RowsView extends Matrix {
  readonly offset: 0;
}

/** The row table of a step; read when the operator runs, not when it is queued. */
export interface StepView {
  /** `[rowCount, 2] i32` of slot and position. */
  readonly table: Int32Array;
  readonly rowCount: number;
}

/** Resolves rows. */
export function viewRows(memory: ReferenceMemory, argument: string, rows: Rows): RowsView {
  const { storage, offsetBytes } = memory.resolve(argument, rows);
  return { data: storage.f32.subarray(offsetBytes / 4), offset: 0, rowStride: rows.rowStride };
}

/** Resolves a row table. */
export function viewStep(memory: ReferenceMemory, step: Step): StepView {
  const { storage, offsetBytes } = memory.resolve("step.table", step.table);
  const start = offsetBytes / 4;
  return { table: storage.i32.subarray(start, start + step.rowCount * ROW_FIELDS), rowCount: step.rowCount };
}

/** Slot of a row; -1 means that the row is skipped. */
export function slotOf(step: StepView, row: number): number {
  return step.table[row * ROW_FIELDS + ROW.SLOT]!;
}

/** Position of a row in its sequence. */
export function positionOf(step: StepView, row: number): number {
  return step.table[row * ROW_FIELDS + ROW.POSITION]!;
}
