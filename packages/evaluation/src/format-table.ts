/** A column of a plain-text table. */
export interface TableColumn {
  readonly title: string;
  /** `left` when absent. */
  readonly align?: "left" | "right" | undefined;
}

/**
 * Renders a table as plain text: a line of titles, a rule, a line a row; two spaces between columns, no space at the
 * end of a line and no line break after the last. Missing cells are empty.
 */
export function formatTable(columns: readonly TableColumn[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map(({ title }, index) =>
    Math.max(title.length, ...rows.map((row) => (row[index] ?? "").length)),
  );
  const line = (cells: readonly string[]): string =>
    columns
      .map(({ align }, index) => {
        const cell = cells[index] ?? "";
        const width = widths[index] as number;
        return align === "right" ? cell.padStart(width) : cell.padEnd(width);
      })
      .join("  ")
      .trimEnd();
  return [
    line(columns.map(({ title }) => title)),
    line(widths.map((width) => "-".repeat(width))),
    ...rows.map(line),
  ].join("\n");
}
