/** Tiles of a map in blocks of whole rows, so that only those near the screen have to be in the page. */

export interface Block<T> {
  /** Place of its first tile among all: what it is known by. */
  first: number;
  tiles: readonly T[];
  /** Lines it takes. */
  rows: number;
}

/** Cuts tiles that lie in `columns` into blocks of at most `rows` lines; only the last line of all may be short. */
export function blocksOf<T>(tiles: readonly T[], columns: number, rows: number): Block<T>[] {
  const across = Math.max(1, Math.floor(columns));
  const size = across * Math.max(1, rows);
  const blocks: Block<T>[] = [];
  for (let first = 0; first < tiles.length; first += size) {
    const part = tiles.slice(first, first + size);
    blocks.push({ first, tiles: part, rows: Math.ceil(part.length / across) });
  }
  return blocks;
}
