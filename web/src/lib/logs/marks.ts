/** What of a line a query looked for, so that it can be marked. */

import { piecesOf, type Piece } from './ansi';
import type { LogQuery } from './logql';

export interface MarkedPiece extends Piece {
  isMarked: boolean;
}

export const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');

/** Matches what the filters of lines ask for; null if they ask for nothing that can be shown. */
export function finderOf(query: LogQuery | null): RegExp | null {
  const parts: string[] = [];
  let folds = false;
  for (const stage of query?.stages ?? []) {
    if (stage.kind !== 'line') continue;
    if (stage.op === '|=') parts.push(...stage.texts.filter((text) => text !== '').map(escaped));
    if (stage.op !== '|~') continue;
    for (const text of stage.texts) {
      const isFolding = text.startsWith('(?i)');
      folds ||= isFolding;
      const source = isFolding ? text.slice(4) : text;
      try {
        // What matches the empty text would mark nothing and everything.
        if (!new RegExp(source).test('')) parts.push(`(?:${source})`);
      } catch {
        // The server's expressions know what the browser's do not; such a one is not marked.
      }
    }
  }
  if (parts.length === 0) return null;
  try {
    return new RegExp(parts.join('|'), folds ? 'gi' : 'g');
  } catch {
    return null;
  }
}

/** Marks beyond this in one line are not shown. */
const MOST_MARKS = 200;

/** A text in pieces of one look each, marked where `finder` finds something. */
export function markedPieces(text: string, finder: RegExp | null): MarkedPiece[] {
  const pieces = piecesOf(text);
  if (!finder) return pieces.map((piece) => ({ ...piece, isMarked: false }));
  const plain = pieces.map((piece) => piece.text).join('');
  const found: [number, number][] = [];
  for (const one of plain.matchAll(finder)) {
    if (one[0] !== '') found.push([one.index, one.index + one[0].length]);
    if (found.length >= MOST_MARKS) break;
  }
  const out: MarkedPiece[] = [];
  let at = 0;
  let next = 0;
  for (const piece of pieces) {
    const end = at + piece.text.length;
    let from = at;
    while (from < end) {
      while ((found[next]?.[1] ?? Infinity) <= from) next++;
      const [start, stop] = found[next] ?? [Infinity, Infinity];
      const isMarked = start <= from;
      const to = Math.min(end, isMarked ? stop : start);
      out.push({ ...piece, text: plain.slice(from, to), isMarked });
      from = to;
    }
    at = end;
  }
  return out;
}
