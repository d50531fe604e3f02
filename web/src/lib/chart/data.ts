/** From a frame's columns to what a chart draws: derived lines, mirrored lines, stacks. */

import type { Cell, Frame } from './frame';

export interface Line {
  key: string;
  label: string;
  /** A CSS custom property, so that the theme decides. */
  colour: string;
  /** Computes the line from the frame's columns; without it the column named `key` is the line. */
  value?: (cell: (key: string) => Cell) => Cell;
  /** Drawn below the axis, shown as positive. */
  mirrored?: boolean;
  dashed?: boolean;
  /** What is left over rather than what is used: drawn as a tint. */
  faint?: boolean;
}

/** One column of values per line, in the order of the lines. */
export function lineColumns(frame: Frame, lines: readonly Line[]): Cell[][] {
  return lines.map((line) => {
    const derive = line.value;
    if (!derive) return frame.columns.get(line.key) ?? new Array<Cell>(frame.times.length).fill(undefined);
    const column = new Array<Cell>(frame.times.length);
    for (let row = 0; row < column.length; row++) column[row] = derive((key) => frame.columns.get(key)?.[row]);
    return column;
  });
}

/**
 * Running sums, so that each line sits upon the one before. Hidden lines add nothing. A row in which no
 * shown line has a value stays empty: a hole if any is one.
 */
export function stack(columns: readonly (readonly Cell[])[], hidden: readonly boolean[]): Cell[][] {
  const rows = columns[0]?.length ?? 0;
  const stacked = columns.map(() => new Array<Cell>(rows));
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    let present = false;
    let hole = false;
    for (const [i, column] of columns.entries()) {
      const cell = column[row];
      if (hidden[i]) continue;
      if (typeof cell === 'number') {
        sum += cell;
        present = true;
      } else if (cell === null) hole = true;
      (stacked[i] as Cell[])[row] = sum;
    }
    if (present) continue;
    for (const column of stacked) column[row] = hole ? null : undefined;
  }
  return stacked;
}

/**
 * Makes a hole reach from the value before it to the value after it. A hole is one cell, which may have cells
 * without a point beside it; drawn as it is, the line would come back there and cross the rest of the silence.
 */
export function spreadHoles(column: readonly Cell[]): readonly Cell[] {
  let spread: Cell[] | null = null;
  let from = 0;
  let isHole = false;
  let isMixed = false;
  for (let row = 0; row <= column.length; row++) {
    const cell = column[row];
    if (row < column.length && typeof cell !== 'number') {
      if (cell === null) isHole = true;
      else isMixed = true;
      continue;
    }
    if (isHole && isMixed) (spread ??= column.slice()).fill(null, from, row);
    from = row + 1;
    isHole = isMixed = false;
  }
  return spread ?? column;
}

/** What is infinite has no place on an axis, and one such point would leave none for all others: a hole. */
export function finite(column: readonly Cell[]): readonly Cell[] {
  const isOdd = (cell: Cell) => typeof cell === 'number' && !Number.isFinite(cell);
  return column.some(isOdd) ? column.map((cell) => (isOdd(cell) ? null : cell)) : column;
}

/** Beyond these uPlot finds no ticks, and differences of values may overflow. */
const LARGEST_DRAWN = 1e16;
const SMALLEST_DRAWN = 1e-16;

/**
 * What values are to be divided by before they are drawn: 1, or a power of `base` (1000, or 1024 for units
 * that count in it) where the largest of them is too large or too small to be drawn as it is.
 */
export function drawnFactor(columns: readonly (readonly Cell[])[], base: number): number {
  let largest = 0;
  for (const column of columns) {
    for (const cell of column) if (typeof cell === 'number') largest = Math.max(largest, Math.abs(cell));
  }
  if (largest === 0 || (largest >= SMALLEST_DRAWN && largest < LARGEST_DRAWN)) return 1;
  const power = Math.floor(Math.log(largest) / Math.log(base));
  // The smallest numbers of all have no power of their own that is a number.
  return base ** Math.max(power, -102);
}

export const mirror = (column: readonly Cell[]): Cell[] =>
  column.map((cell) => (typeof cell === 'number' ? -cell : cell));

/** The value shown for a row: its own, or the nearest before it when this column has none just there. */
export function valueAt(column: readonly Cell[], row: number): number | null {
  for (let i = row; i >= 0 && i > row - 4; i--) {
    const cell = column[i];
    if (cell !== undefined) return cell;
  }
  return null;
}

export function lastValue(column: readonly Cell[]): number | null {
  return valueAt(column, column.length - 1);
}
