/** Terminal colours in lines: which text has which, and the text without them. */

export interface Piece {
  text: string;
  /** Of the classes `ansi-*`; empty for plain text. */
  style: string;
}

// eslint-disable-next-line no-control-regex
const SEQUENCE = /\x1b\[([\d;]*)m|\x1b\[[\d;?]*[A-Za-ln-z]/g;
const COLOURS = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white'];

export const hasAnsi = (text: string): boolean => text.includes('\x1b[');

export const withoutAnsi = (text: string): string => (hasAnsi(text) ? text.replace(SEQUENCE, '') : text);

interface Look {
  colour: string;
  ground: string;
  marks: Set<string>;
}

/** The pieces of a text, each in one look. Of more colours than the eight the nearest is taken, which both themes can show. */
export function piecesOf(text: string): Piece[] {
  if (!hasAnsi(text)) return text === '' ? [] : [{ text, style: '' }];
  const pieces: Piece[] = [];
  const look: Look = { colour: '', ground: '', marks: new Set() };
  let at = 0;
  const take = (to: number): void => {
    if (to > at) pieces.push({ text: text.slice(at, to), style: styleOf(look) });
  };
  for (const found of text.matchAll(SEQUENCE)) {
    take(found.index);
    at = found.index + found[0].length;
    if (found[1] !== undefined) apply(look, found[1].split(';').map(Number));
  }
  take(text.length);
  return pieces;
}

const styleOf = ({ colour, ground, marks }: Look): string =>
  [colour && `ansi-${colour}`, ground && `ansi-on-${ground}`, ...[...marks].map((mark) => `ansi-${mark}`)].filter(Boolean).join(' ');

const MARKS: Record<number, string> = { 1: 'bold', 2: 'dim', 3: 'italic', 4: 'underline', 7: 'inverse', 9: 'strike' };

function apply(look: Look, codes: readonly number[]): void {
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i] as number;
    if (code === 0) {
      look.colour = look.ground = '';
      look.marks.clear();
    } else if (MARKS[code]) look.marks.add(MARKS[code]);
    else if (code === 22) ['bold', 'dim'].forEach((mark) => look.marks.delete(mark));
    else if (code > 22 && code < 30) look.marks.delete(MARKS[code - 20] ?? '');
    else if (code >= 30 && code <= 37) look.colour = COLOURS[code - 30] as string;
    else if (code >= 90 && code <= 97) look.colour = COLOURS[code - 90] as string;
    else if (code === 39) look.colour = '';
    else if (code >= 40 && code <= 47) look.ground = COLOURS[code - 40] as string;
    else if (code >= 100 && code <= 107) look.ground = COLOURS[code - 100] as string;
    else if (code === 49) look.ground = '';
    else if (code === 38 || code === 48) {
      const kind = codes[i + 1];
      const rest = codes.slice(i + 2, i + 5) as [number, number, number];
      const named = kind === 5 ? paletteColour(rest[0]) : kind === 2 && rest.length === 3 ? nearest(...rest) : undefined;
      if (named) look[code === 38 ? 'colour' : 'ground'] = named;
      i += kind === 5 ? 2 : kind === 2 ? 4 : 0;
    }
  }
}

/** The colour of a place in the palette of 256: 16 that have names, a cube of 6 by 6 by 6, 24 greys. */
function paletteColour(place: number | undefined): string | undefined {
  if (place === undefined || !(place >= 0 && place < 256)) return undefined;
  if (place < 16) return COLOURS[place % 8];
  if (place >= 232) return nearest(place - 232, place - 232, place - 232, 23);
  const cube = place - 16;
  return nearest(Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6, 5);
}

/** Which of the eight is nearest in hue, or in brightness if it has hardly any; parts count up to `most`. */
function nearest(red: number, green: number, blue: number, most = 255): string {
  const high = Math.max(red, green, blue);
  const spread = high - Math.min(red, green, blue);
  if (spread <= most / 8) return high * 2 < most ? 'black' : 'white';
  const bit = (part: number, sign: number): number => (high - part < spread / 2 ? sign : 0);
  return COLOURS[bit(red, 1) + bit(green, 2) + bit(blue, 4)] as string;
}
