/** How many lines of each level there are over time, counted over exactly the times that are listed. */

import type { RangeSeries } from '../api/client';
import { stepFor } from '../time/range';
import { LEVELS, normalLevel, type Level } from './level';

export interface Buckets {
  fromMs: number;
  toMs: number;
  stepMs: number;
}

/** Buckets on multiples of their length; the first and the last are cut off where the times are. */
export function bucketsOf(fromMs: number, toMs: number, most: number): Buckets {
  return { fromMs, toMs, stepMs: stepFor(toMs - fromMs, most, 1000) };
}

/** Times that end with now are moved to whole buckets, of which the last is still filling. */
export function wholeBuckets(spanMs: number, nowMs: number, most: number): Buckets {
  const stepMs = stepFor(spanMs, most, 1000);
  const toMs = Math.ceil((nowMs + 1) / stepMs) * stepMs;
  return { fromMs: toMs - Math.ceil(spanMs / stepMs) * stepMs, toMs, stepMs };
}

/** Where buckets begin, in milliseconds, and where the last one ends. */
export function edgesOf({ fromMs, toMs, stepMs }: Buckets): number[] {
  const edges = [fromMs];
  for (let at = (Math.floor(fromMs / stepMs) + 1) * stepMs; at < toMs; at += stepMs) edges.push(at);
  edges.push(toMs);
  return edges;
}

export interface Volume extends Buckets {
  edges: number[];
  /** For each level that occurs, the gravest first, a count for each bucket. */
  levels: { level: Level; counts: number[] }[];
  total: number;
}

/** What is to be counted: whole buckets in one query, and those that are cut off one by one. */
export interface Plan {
  /** A window of `stepMs` that ends at each of these. */
  range: { firstEndMs: number; lastEndMs: number } | null;
  /** Buckets by their places. */
  single: number[];
}

export function planOf(buckets: Buckets): Plan {
  const edges = edgesOf(buckets);
  const isWhole = (i: number) => (edges[i + 1] as number) - (edges[i] as number) === buckets.stepMs;
  const places = Array.from({ length: edges.length - 1 }, (_, i) => i);
  const whole = places.filter(isWhole);
  const first = whole[0];
  const last = whole[whole.length - 1];
  return {
    range: first === undefined || last === undefined ? null : { firstEndMs: edges[first + 1] as number, lastEndMs: edges[last + 1] as number },
    single: places.filter((i) => !isWhole(i)),
  };
}

/** Puts counts together: those over whole buckets by their ends, and single ones by their places. */
export function volumeOf(buckets: Buckets, series: readonly RangeSeries[], single: readonly { at: number; level: string | undefined; count: number }[]): Volume {
  const edges = edgesOf(buckets);
  const size = edges.length - 1;
  const found = new Map<Level, number[]>();
  const add = (name: string | undefined, at: number, count: number): void => {
    if (at < 0 || at >= size || !(count > 0)) return;
    const level = normalLevel(name);
    const counts = found.get(level) ?? new Array<number>(size).fill(0);
    counts[at] = (counts[at] as number) + count;
    found.set(level, counts);
  };
  for (const { metric, values = [] } of series) {
    for (const [seconds, text] of values) {
      add(metric.detected_level, edges.indexOf(Math.round(seconds * 1000)) - 1, Number(text));
    }
  }
  for (const { at, level, count } of single) add(level, at, count);
  const levels = LEVELS.filter((level) => found.has(level)).map((level) => ({ level, counts: found.get(level) as number[] }));
  const total = levels.reduce((sum, { counts }) => sum + counts.reduce((part, count) => part + count, 0), 0);
  return { ...buckets, edges, levels, total };
}
