/** The fields of a line: of its stream, its metadata, what the query took out of it, and what its text tells. */

import { withoutAnsi } from './ansi';
import { jsonOf } from './json';
import type { Line } from './line';

export type FieldSource = 'stream' | 'metadata' | 'parsed' | 'json' | 'logfmt';

export interface Field {
  name: string;
  value: string;
  /** `json` and `logfmt` are of the text: a query has them once it has that parser. */
  source: FieldSource;
}

/** Fields of one line that are shown at most, and of a text that are read. */
const MOST_FIELDS = 500;
const MOST_DEPTH = 32;

const cleanName = (name: string): string => {
  const clean = name.replace(/[^A-Za-z0-9_]/g, '_');
  return /^\d/.test(clean) ? `_${clean}` : clean;
};

/** As LogQL's `json` names them: nested names are joined by `_`, lists are left out. */
function flatten(object: Record<string, unknown>, prefix: string, out: [string, string][], depth = 0): void {
  for (const [key, value] of Object.entries(object)) {
    if (out.length >= MOST_FIELDS) return;
    const name = prefix === '' ? cleanName(key) : `${prefix}_${key.replace(/[^A-Za-z0-9_]/g, '_')}`;
    if (value === null || Array.isArray(value)) continue;
    if (typeof value === 'object') {
      if (depth < MOST_DEPTH) flatten(value as Record<string, unknown>, name, out, depth + 1);
    } else out.push([name, String(value)]);
  }
}

const PAIR = /([^\s="]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))(?=\s|$)/gy;

/** The pairs of a logfmt line; empty if the text is not one as a whole or has fewer than two. */
export function logfmtOf(text: string): [string, string][] {
  const pairs: [string, string][] = [];
  let words = 0;
  let at = 0;
  while (at < text.length && pairs.length < MOST_FIELDS) {
    const blank = /\s/.test(text[at] as string);
    if (blank) {
      at++;
      continue;
    }
    PAIR.lastIndex = at;
    const found = PAIR.exec(text);
    if (found) {
      const [whole, name, quoted, plain] = found;
      pairs.push([cleanName(name as string), quoted === undefined ? (plain ?? '') : quoted.replace(/\\(.)/g, (_, sign: string) => (sign === 'n' ? '\n' : sign === 't' ? '\t' : sign))]);
      at += whole.length;
    } else {
      // Prose has more words than pairs.
      if (++words > 3 && words > pairs.length) return [];
      const next = text.slice(at).search(/\s/);
      at = next < 0 ? text.length : at + next;
    }
  }
  return pairs.length >= 2 ? pairs : [];
}

/** All fields, each name once as the query would have it. */
export function fieldsOf(line: Line): Field[] {
  const fields: Field[] = [];
  const names = new Set<string>();
  const add = (name: string, value: string, source: FieldSource): void => {
    // What a stream or the metadata has already is called so by the server.
    const shown = names.has(name) ? `${name}_extracted` : name;
    if (names.has(shown) || fields.length >= MOST_FIELDS) return;
    names.add(shown);
    fields.push({ name: shown, value, source });
  };
  for (const [name, value] of Object.entries(line.stream)) add(name, value, 'stream');
  for (const [name, value] of Object.entries(line.metadata)) add(name, value, 'metadata');
  const parsed = Object.entries(line.parsed);
  for (const [name, value] of parsed) if (!names.has(name)) add(name, value, 'parsed');
  if (parsed.some(([name]) => name !== '__error__' && name !== '__error_details__')) return fields;
  const text = withoutAnsi(line.text);
  const object = jsonOf(text);
  if (object) {
    const pairs: [string, string][] = [];
    flatten(object, '', pairs);
    for (const [name, value] of pairs) add(name, value, 'json');
  } else for (const [name, value] of logfmtOf(text)) add(name, value, 'logfmt');
  return fields;
}

export interface TopValue {
  value: string;
  count: number;
}

export interface FieldStatistic {
  name: string;
  source: FieldSource;
  /** Lines that have it. */
  count: number;
  /** Distinct values, counted up to the limit. */
  distinct: number;
  isMany: boolean;
  top: TopValue[];
}

const MOST_DISTINCT = 10_000;
const TOP = 10;

interface Counted {
  source: FieldSource;
  count: number;
  values: Map<string, number>;
  isMany: boolean;
}

/** Counts the values of fields, line by line, so that it can be done in pieces. */
export class FieldCounter {
  lines = 0;
  #fields = new Map<string, Counted>();

  add(line: Line): void {
    this.lines++;
    for (const { name, value, source } of fieldsOf(line)) {
      let field = this.#fields.get(name);
      if (!field) this.#fields.set(name, (field = { source, count: 0, values: new Map(), isMany: false }));
      field.count++;
      const known = field.values.get(value);
      if (known !== undefined) field.values.set(value, known + 1);
      else if (field.values.size < MOST_DISTINCT) field.values.set(value, 1);
      else field.isMany = true;
    }
  }

  /** Those that most lines have come first, of them those of streams. */
  statistics(): FieldStatistic[] {
    const order: FieldSource[] = ['stream', 'metadata', 'parsed', 'json', 'logfmt'];
    const list = [...this.#fields].map(([name, { source, count, values, isMany }]): FieldStatistic => {
      const top = [...values].map(([value, times]) => ({ value, count: times })).sort((a, b) => b.count - a.count || (a.value < b.value ? -1 : 1));
      return { name, source, count, distinct: values.size, isMany, top: top.slice(0, TOP) };
    });
    return list.sort((a, b) => order.indexOf(a.source) - order.indexOf(b.source) || b.count - a.count || (a.name < b.name ? -1 : 1));
  }
}
