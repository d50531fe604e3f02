/** Exemplars as dots on a graph. */

import type { Exemplar } from '../api/exemplars';

export interface Dot {
  x: number;
  y: number;
  /** It lies above what the axis shows, and is drawn at its upper edge. */
  isAbove: boolean;
  exemplar: Exemplar;
}

/** More cannot be told apart, or reached by keyboard. */
const MOST = 400;
/** Dots nearer than this cover one another. */
const CELL = 7;

/**
 * Places exemplars by `place`, which yields pixels inside the plot, or null for what is not in its time. Of several
 * at one place the latest stays; if there are too many, the largest values, as those are what one looks for.
 */
export function dotsOf(list: readonly Exemplar[], place: (exemplar: Exemplar) => { x: number; y: number } | null): Dot[] {
  const taken = new Map<string, Dot>();
  for (const exemplar of [...list].sort((a, b) => a.atMs - b.atMs)) {
    const at = place(exemplar);
    if (!at || Number.isNaN(at.y)) continue;
    const isAbove = at.y < 0;
    const y = Math.max(0, at.y);
    taken.set(`${Math.round(at.x / CELL)}:${Math.round(y / CELL)}`, { x: at.x, y, isAbove, exemplar });
  }
  const dots = [...taken.values()];
  if (dots.length > MOST) {
    dots.sort((a, b) => b.exemplar.value - a.exemplar.value);
    dots.length = MOST;
  }
  return dots.sort((a, b) => a.x - b.x);
}
