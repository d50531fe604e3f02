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
  let mean = 0;
  let count = 0;
  for (const cell of column) {
    if (typeof cell !== 'number') continue;
    last = cell;
    if (cell < min) min = cell;
    if (cell > max) max = cell;
    sum += cell;
    count++;
    mean += cell / count - mean / count;
  }
  if (count === 0) return { last: null, min: null, max: null, avg: null };
  // It may be the sum alone that is too large; what is infinite itself stays so.
  const isTooLarge = !Number.isFinite(sum) && Number.isFinite(min) && Number.isFinite(max);
  return { last, min, max, avg: isTooLarge ? mean : sum / count };
}
