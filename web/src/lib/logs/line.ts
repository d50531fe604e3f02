/** One line of a log as the page holds it. */

import type { Labels } from '../api/client';
import { levelOf, type Level } from './level';

export interface Line {
  /** Counts up from the oldest line that is held; changes when lines come in between. */
  seq: number;
  /** Nanoseconds since 1970, in full. */
  ns: string;
  ms: number;
  text: string;
  level: Level;
  /** Labels of its stream, one object for all lines of it. */
  stream: Labels;
  /** Structured metadata. */
  metadata: Labels;
  /** What stages of the query took out of it. */
  parsed: Labels;
}

/** A value of Loki's answers; the third part is there if categories were asked for. */
export type WireValue = [string, string, { structuredMetadata?: Labels; parsed?: Labels }?];

export interface WireStream {
  stream: Labels;
  values: WireValue[];
}

const NONE: Labels = Object.freeze({}) as Labels;

/** Whether a time lies before another; both are decimal numbers without leading zeros. */
export const isBefore = (a: string, b: string): boolean => (a.length === b.length ? a < b : a.length < b.length);

export const msOf = (ns: string): number => Number(ns) / 1e6;

const compare = (a: Line, b: Line): number => (a.ns === b.ns ? 0 : isBefore(a.ns, b.ns) ? -1 : 1);

/** The lines of an answer, the oldest first. Those of one time stay in the order in which the answer has them. */
export function linesOf(streams: readonly WireStream[], direction: 'backward' | 'forward'): Line[] {
  const lines: Line[] = [];
  for (const { stream, values } of streams) {
    const ordered = direction === 'backward' ? [...values].reverse() : values;
    for (const [ns, text, more] of ordered) {
      const metadata = more?.structuredMetadata ?? NONE;
      const parsed = more?.parsed ?? NONE;
      lines.push({ seq: 0, ns, ms: Math.floor(msOf(ns)), text, level: levelOf(stream, metadata, parsed), stream, metadata, parsed });
    }
  }
  // Stable, so lines of one stream and time keep their order.
  return lines.sort(compare);
}

const keyOf = ({ ns, text, stream, metadata }: Line): string => JSON.stringify([ns, text, stream, metadata]);

/**
 * The lines of `found` that are not known yet, where both may have lines of the time at which they meet: a live tail
 * that begins again where it was lost begins with those. Equal lines are counted, not dropped.
 */
export function withoutKnown(found: readonly Line[], known: readonly Line[], ns: string): Line[] {
  const counts = new Map<string, number>();
  for (const line of known) if (line.ns === ns) counts.set(keyOf(line), (counts.get(keyOf(line)) ?? 0) + 1);
  if (counts.size === 0) return [...found];
  return found.filter((line) => {
    if (line.ns !== ns) return true;
    const left = counts.get(keyOf(line)) ?? 0;
    if (left > 0) counts.set(keyOf(line), left - 1);
    return left === 0;
  });
}

/** The lines that are held, the oldest first, numbered without gaps. */
export class Lines {
  held: Line[] = [];

  get count(): number {
    return this.held.length;
  }

  get oldest(): Line | undefined {
    return this.held[0];
  }

  get newest(): Line | undefined {
    return this.held[this.held.length - 1];
  }

  /** The place of a line among those held; negative, or beyond the end, if it no longer is. */
  indexOf(line: Line): number {
    const at = line.seq - (this.held[0]?.seq ?? 0);
    return this.held[at] === line ? at : -1;
  }

  set(lines: Line[]): void {
    this.held = lines;
    this.#number(0, 0);
  }

  /** Puts older lines in front. */
  addOlder(lines: Line[]): void {
    const first = this.held[0]?.seq ?? 0;
    this.held = [...lines, ...this.held];
    for (let i = 0; i < lines.length; i++) (lines[i] as Line).seq = first - lines.length + i;
  }

  /** Puts lines where their times say, which is at the end but for what came late. Beyond `most` the oldest go. */
  addNewer(lines: readonly Line[], most: number): void {
    const first = lines[0];
    if (!first) return;
    let from = this.held.length;
    while (from > 0 && isBefore(first.ns, (this.held[from - 1] as Line).ns)) from--;
    const late = this.held.splice(from);
    const seq = this.held[from - 1] === undefined ? (late[0]?.seq ?? 0) : (this.held[from - 1] as Line).seq + 1;
    const merged = late.length === 0 ? lines : [...late, ...lines].sort(compare);
    for (const line of merged) this.held.push(line);
    this.#number(from, seq);
    if (this.held.length > most) this.held.splice(0, this.held.length - most);
  }

  #number(from: number, seq: number): void {
    for (let i = from; i < this.held.length; i++) (this.held[i] as Line).seq = seq + i - from;
  }
}
