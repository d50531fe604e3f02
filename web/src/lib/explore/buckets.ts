/** Distributions: of native histograms as the API writes them, and of classic ones in their `le` series. */

import { seriesName, toNumber, type InstantSeries, type Labels, type RangeSeries } from '../api/client';

/** Observations between two bounds. */
export interface Bucket {
  low: number;
  high: number;
  count: number;
}

export interface Distribution {
  buckets: Bucket[];
  count: number;
  /** NaN where nobody tells it, as in classic buckets. */
  sum: number;
}

/** The distributions of one set of labels over time, in ascending order of time. */
export interface DistributionSeries {
  labels: Labels;
  name: string;
  points: { atMs: number; distribution: Distribution }[];
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

/** A native histogram: `{"count","sum","buckets":[[rule, low, high, count]…]}`; null if it is none. */
export function nativeDistribution(wire: unknown): Distribution | null {
  if (!isRecord(wire)) return null;
  const rows = Array.isArray(wire.buckets) ? (wire.buckets as unknown[]) : [];
  const buckets = rows.flatMap((row): Bucket[] => {
    if (!Array.isArray(row) || row.length !== 4) return [];
    const [, low, high, count] = row.map((part) => toNumber(String(part))) as [number, number, number, number];
    return Number.isNaN(low) || Number.isNaN(high) ? [] : [{ low, high, count }];
  });
  return { buckets, count: toNumber(String(wire.count)), sum: toNumber(String(wire.sum)) };
}

const withoutLe = (labels: Labels): Labels => {
  const { le: _, ...rest } = labels;
  return rest;
};

const bound = (labels: Labels): number => (labels.le === undefined ? NaN : toNumber(labels.le));

/** Differences of cumulative counts; what falls back, as rates of buckets scraped at different moments may, counts as nothing. */
export function classicDistribution(cumulative: readonly { le: number; count: number }[]): Distribution {
  const sorted = cumulative.filter(({ le, count }) => !Number.isNaN(le) && !Number.isNaN(count)).sort((a, b) => a.le - b.le);
  const buckets: Bucket[] = [];
  let below = 0;
  // Classic histograms have no lower bound; those of durations and sizes begin at 0.
  let low = (sorted[0]?.le ?? 0) > 0 ? 0 : -Infinity;
  for (const { le, count } of sorted) {
    if (le > low) buckets.push({ low, high: le, count: Math.max(0, count - below) });
    below = Math.max(below, count);
    low = le;
  }
  return { buckets: buckets.filter((bucket) => bucket.count > 0), count: below, sum: NaN };
}

/** Series told apart by nothing but `le`, by the labels they share. */
function groupsByLe<T extends { metric: Labels }>(series: readonly T[]): Map<string, { labels: Labels; members: T[] }> {
  const groups = new Map<string, { labels: Labels; members: T[] }>();
  for (const one of series) {
    if (Number.isNaN(bound(one.metric))) continue;
    const labels = withoutLe(one.metric);
    const name = seriesName(labels);
    const group = groups.get(name);
    if (group) group.members.push(one);
    else groups.set(name, { labels, members: [one] });
  }
  for (const [name, group] of groups) if (group.members.length < 2) groups.delete(name);
  return groups;
}

/** All distributions in an answer over a range. */
export function distributionsOver(series: readonly RangeSeries[]): DistributionSeries[] {
  const found: DistributionSeries[] = [];
  for (const { metric, histograms } of series) {
    const points = (histograms ?? []).flatMap((point) => {
      const [second, wire] = Array.isArray(point) ? (point as [number, unknown]) : [NaN, null];
      const distribution = nativeDistribution(wire);
      return distribution ? [{ atMs: second * 1000, distribution }] : [];
    });
    if (points.length > 0) found.push({ labels: metric, name: seriesName(metric), points });
  }
  for (const [name, { labels, members }] of groupsByLe(series)) {
    const byTime = new Map<number, { le: number; count: number }[]>();
    for (const { metric, values = [] } of members) {
      for (const [second, text] of values) {
        const atMs = second * 1000;
        const row = byTime.get(atMs) ?? [];
        row.push({ le: bound(metric), count: toNumber(text) });
        byTime.set(atMs, row);
      }
    }
    const points = [...byTime]
      .sort(([a], [b]) => a - b)
      .map(([atMs, row]) => ({ atMs, distribution: classicDistribution(row) }));
    if (points.length > 0) found.push({ labels, name, points });
  }
  return found;
}

/** All distributions in an answer at one moment. */
export function distributionsAt(series: readonly InstantSeries[]): DistributionSeries[] {
  return distributionsOver(
    series.map(({ metric, value, histogram }) => ({
      metric,
      ...(value ? { values: [value] } : {}),
      ...(histogram ? { histograms: [histogram] } : {}),
    })),
  );
}

/** A picture of distributions over time: a column for each time, a row between each two bounds, lowest first. */
export interface Heat {
  times: number[];
  /** One more than there are rows. */
  bounds: number[];
  /** By column, then by row. */
  cells: Float64Array;
  most: number;
}

/** More rows are narrower than can be told apart. */
const MOST_ROWS = 96;

/**
 * Adds up distributions. Their buckets need not have the same bounds: the rows lie between all bounds there are,
 * and a bucket that covers several spreads evenly over them, as nobody knows where in it the observations were.
 */
export function heatOf(all: readonly DistributionSeries[]): Heat {
  const set = new Set<number>();
  const timeSet = new Set<number>();
  for (const { points } of all) {
    for (const { atMs, distribution } of points) {
      timeSet.add(atMs);
      for (const { low, high } of distribution.buckets) set.add(low).add(high);
    }
  }
  const every = [...set].sort((a, b) => a - b);
  const stride = Math.max(1, Math.ceil((every.length - 1) / MOST_ROWS));
  const bounds = every.filter((_, i) => i % stride === 0 || i === every.length - 1);
  const times = [...timeSet].sort((a, b) => a - b);
  const rows = Math.max(0, bounds.length - 1);
  const cells = new Float64Array(times.length * rows);
  const columnOf = new Map(times.map((atMs, i) => [atMs, i]));
  for (const { points } of all) {
    for (const { atMs, distribution } of points) {
      const start = (columnOf.get(atMs) as number) * rows;
      for (const { low, high, count } of distribution.buckets) {
        const first = rowAt(bounds, low);
        const last = Math.max(first + 1, rowAt(bounds, high));
        for (let row = first; row < last && row < rows; row++) cells[start + row] = (cells[start + row] as number) + count / (last - first);
      }
    }
  }
  return { times, bounds, cells, most: cells.reduce((most, cell) => Math.max(most, cell), 0) };
}

/** The row that begins at or before a bound. */
function rowAt(bounds: readonly number[], value: number): number {
  let low = 0;
  let high = bounds.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((bounds[middle] as number) <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}
