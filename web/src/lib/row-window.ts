/** Which rows of a long table are in sight. */

export interface RowWindow {
  /** First row in the page. */
  first: number;
  /** One past the last. */
  last: number;
}

/**
 * The rows, each `rowHeight` pixels, that a view of `height` pixels shows after scrolling by `top`, and `spare`
 * more on both sides. Scrolled beyond the end, as after a filter has shortened the table, the last ones.
 */
export function rowWindow(top: number, height: number, rowHeight: number, count: number, spare: number): RowWindow {
  const inSight = Math.ceil(height / rowHeight) + 1;
  const first = Math.max(0, Math.min(Math.floor(top / rowHeight), count - inSight) - spare);
  const last = Math.min(count, Math.ceil((Math.min(top, count * rowHeight) + height) / rowHeight) + spare);
  return { first, last };
}
