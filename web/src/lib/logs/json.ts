/** Lines that are JSON, as they are written: a number keeps all of its digits, which `JSON.parse` would round. */

export interface JsonPiece {
  text: string;
  /** Of the classes `json-*`; empty for brackets, commas and blanks. */
  kind: '' | 'key' | 'string' | 'number' | 'word';
}

const TOKEN = /("(?:[^"\\]|\\.)*")|(-?\d[\d.eE+-]*)|(true|false|null)|([{}[\],:])/g;
/** Numbers that a double may not hold as they are written. */
const EXACT = /\d{16}|\d[.eE]/;

/** The JSON object that a line is, its numbers as texts where they may be rounded; null if it is none. */
export function jsonOf(text: string): Record<string, unknown> | null {
  const trimmed = text.trim();
  if (!trimmed.startsWith('{') || !trimmed.endsWith('}')) return null;
  try {
    const value: unknown = JSON.parse(trimmed);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
    if (!EXACT.test(trimmed)) return value as Record<string, unknown>;
    return JSON.parse(trimmed.replace(TOKEN, (token, _text, number) => (number === undefined ? token : `"${token}"`))) as Record<string, unknown>;
  } catch {
    return null;
  }
}

/** Characters of strings are shown, not their escapes, which many programs write for all but ASCII. */
const shown = (token: string): string => JSON.stringify(JSON.parse(token));

/** An object set over lines, in pieces of one kind each; null if the text is none. */
export function prettyPieces(text: string): JsonPiece[] | null {
  if (jsonOf(text) === null) return null;
  const tokens = [...text.matchAll(TOKEN)];
  const pieces: JsonPiece[] = [];
  const plain = (add: string): void => {
    const last = pieces[pieces.length - 1];
    if (last?.kind === '') last.text += add;
    else pieces.push({ text: add, kind: '' });
  };
  let depth = 0;
  const turn = (): void => plain(`\n${'  '.repeat(depth)}`);
  for (let i = 0; i < tokens.length; i++) {
    const [token, string, number, word] = tokens[i] as RegExpExecArray;
    const next = tokens[i + 1]?.[0];
    if (string !== undefined) pieces.push({ text: shown(string), kind: next === ':' ? 'key' : 'string' });
    else if (number !== undefined) pieces.push({ text: number, kind: 'number' });
    else if (word !== undefined) pieces.push({ text: word, kind: 'word' });
    else if (token === ':') plain(': ');
    else if (token === ',') {
      plain(',');
      turn();
    } else if (token === '{' || token === '[') {
      plain(token);
      if (next === '}' || next === ']') {
        plain(next);
        i++;
      } else {
        depth++;
        turn();
      }
    } else {
      depth--;
      turn();
      plain(token);
    }
  }
  return pieces;
}

/** Likewise as one text; the text itself if it is no object. */
export const prettyText = (text: string): string => prettyPieces(text)?.map((piece) => piece.text).join('') ?? text;
