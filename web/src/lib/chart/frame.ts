/**
 * The data of one chart: columns of values over one time axis.
 *
 * In a column `null` is a hole (the line breaks) and `undefined` is "no point of this column here" (the
 * line passes). Charts read `version` to learn that something changed.
 */

import { toNumber, type Labels, type Point } from '../api/client';

export type Cell = number | null | undefined;

export class Frame {
  times: number[] = [];
  columns = new Map<string, Cell[]>();
  version = 0;
  #lastAt = new Map<string, number>();
  /** First row that a load keeps if it is newer than what it brings. */
  #liveSince = 0;

  /** Points of one column further apart than `gapMs` are not connected. */
  constructor(public gapMs: number) {}

  /** Sets one cell; rows are in practice appended, or completed at the last row. Older rows are found by search. */
  set(atMs: number, key: string, value: number | null): void {
    const row = this.#rowAt(atMs);
    const column = this.#column(key);
    const lastAt = this.#lastAt.get(key);
    if (lastAt !== undefined && atMs - lastAt > this.gapMs) this.#breakAfter(lastAt, key);
    column[this.#indexOf(atMs, row)] = value;
    if (lastAt === undefined || atMs > lastAt) this.#lastAt.set(key, atMs);
    else this.#keepApart(atMs, key);
    this.version++;
  }

  /** Drops rows before `atMs`, a batch at a time, since shifting every second would copy all columns. */
  trim(atMs: number): void {
    let count = 0;
    while (count < this.times.length && (this.times[count] as number) < atMs) count++;
    if (count < 32) return;
    this.#liveSince = Math.max(0, this.#liveSince - count);
    this.times.splice(0, count);
    for (const [key, column] of this.columns) {
      column.splice(0, count);
      if (column.every((cell) => cell === undefined || cell === null)) {
        this.columns.delete(key);
        this.#lastAt.delete(key);
      }
    }
    this.version++;
  }

  /**
   * Replaces the past by a range query's answer on its grid, and keeps what arrived live after it.
   * A grid point without a value is a hole.
   */
  load(grid: Grid, series: readonly { key: string; values: readonly Point[] }[]): void {
    const liveTimes = this.times;
    const liveColumns = this.columns;
    const liveSince = this.#liveSince;
    this.#liveSince = 0;
    const rows = Math.max(0, Math.floor((grid.toMs - grid.fromMs) / grid.stepMs + 1e-9) + 1);
    this.times = Array.from({ length: rows }, (_, i) => grid.fromMs + i * grid.stepMs);
    this.columns = new Map();
    this.#lastAt = new Map();
    for (const { key, values } of series) {
      const column = new Array<Cell>(rows).fill(null);
      for (const [second, text] of values) {
        const row = Math.round((second * 1000 - grid.fromMs) / grid.stepMs);
        const value = toNumber(text);
        if (row >= 0 && row < rows && !Number.isNaN(value)) column[row] = value;
      }
      this.columns.set(key, column);
      const last = values[values.length - 1];
      if (last) this.#lastAt.set(key, last[0] * 1000);
    }
    // The newest grid points may hold nothing yet only because the data is that fresh: no hole there.
    this.#openEnd();
    const end = this.times[rows - 1] ?? -Infinity;
    this.version++;
    for (const [row, atMs] of liveTimes.entries()) {
      if (row < liveSince || atMs <= end) continue;
      for (const [key, column] of liveColumns) {
        const cell = column[row];
        if (cell !== undefined) this.set(atMs, key, cell);
      }
    }
  }

  /** Marks all rows as past: the next load replaces them too, and only what is set after now survives it. */
  staleTail(): void {
    this.#liveSince = this.times.length;
  }

  clear(): void {
    this.#liveSince = 0;
    this.times = [];
    this.columns = new Map();
    this.#lastAt = new Map();
    this.version++;
  }

  /** The newest value of a column, hole or not. */
  last(key: string): number | null {
    const column = this.columns.get(key);
    if (!column) return null;
    for (let i = column.length - 1; i >= 0; i--) {
      const cell = column[i];
      if (cell !== undefined) return cell;
    }
    return null;
  }

  #openEnd(): void {
    for (const column of this.columns.values()) {
      for (let i = column.length - 1; i >= 0 && column[i] === null; i--) column[i] = undefined;
    }
  }

  #column(key: string): Cell[] {
    let column = this.columns.get(key);
    if (!column) {
      column = new Array<Cell>(this.times.length).fill(undefined);
      this.columns.set(key, column);
    }
    return column;
  }

  #rowAt(atMs: number): number {
    const { times } = this;
    const end = times.length - 1;
    if (end >= 0 && times[end] === atMs) return end;
    if (end < 0 || (times[end] as number) < atMs) {
      times.push(atMs);
      for (const column of this.columns.values()) column.push(undefined);
      return end + 1;
    }
    const row = lowerBound(times, atMs);
    if (times[row] !== atMs) this.#insert(row, atMs);
    return row;
  }

  /** Breaking a line may have inserted a row before this one. */
  #indexOf(atMs: number, guess: number): number {
    return this.times[guess] === atMs ? guess : lowerBound(this.times, atMs);
  }

  #insert(row: number, atMs: number): void {
    this.times.splice(row, 0, atMs);
    for (const column of this.columns.values()) column.splice(row, 0, undefined);
  }

  /** What came late is connected with its neighbours only where those are near. */
  #keepApart(atMs: number, key: string): void {
    const { times } = this;
    const column = this.#column(key);
    const row = lowerBound(times, atMs);
    let before = row - 1;
    while (before >= 0 && column[before] === undefined) before--;
    let after = row + 1;
    while (after < times.length && column[after] === undefined) after++;
    const isFar = (other: number) => typeof column[other] === 'number' && Math.abs((times[other] as number) - atMs) > this.gapMs;
    const isBeforeFar = isFar(before);
    const beforeMs = times[before] as number;
    if (isFar(after)) this.#breakAfter(atMs, key);
    if (isBeforeFar) this.#breakAfter(beforeMs, key);
  }

  #breakAfter(atMs: number, key: string): void {
    const row = lowerBound(this.times, atMs + 1);
    const column = this.#column(key);
    if (column[row] !== undefined || row >= this.times.length - 1) this.#insert(row, atMs + 1);
    column[row] = null;
  }
}

export interface Grid {
  fromMs: number;
  toMs: number;
  stepMs: number;
}

/** The grid of a range, on multiples of its step so that neighbouring requests agree on their points. */
export function gridOf(fromMs: number, toMs: number, stepMs: number): Grid {
  return { fromMs: Math.ceil(fromMs / stepMs) * stepMs, toMs: Math.floor(toMs / stepMs) * stepMs, stepMs };
}

/** First index whose time is not before `atMs`. */
export function lowerBound(times: readonly number[], atMs: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times[middle] as number) < atMs) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Labels a series is told apart by, as a stable text. */
export const labelsKey = (labels: Labels): string =>
  Object.keys(labels)
    .sort()
    .map((name) => `${name}=${labels[name]}`)
    .join('\u0000');
