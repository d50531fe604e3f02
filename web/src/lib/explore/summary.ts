/** Figures of a graph's legend, over the points that were drawn. */

import type { Cell } from '../chart/frame';

export interface Summary {
  last: number | null;
  min: number | null;
  max: number | null;
  avg: number | null;
}

export function summarise(column: readonly Cell[]): Summary {
  let last: number | null = null;
  let min = Infinity;
  let max = -Infinity;
  let sum = 0;
  let count = 0;
  for (const cell of column) {
    if (typeof cell !== 'number') continue;
    last = cell;
    if (cell < min) min = cell;
    if (cell > max) max = cell;
    sum += cell;
    count++;
  }
  return count === 0 ? { last: null, min: null, max: null, avg: null } : { last, min, max, avg: sum / count };
}
