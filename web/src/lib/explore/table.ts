/** An instant answer as rows of a table. */

import { seriesName, toNumber, type InstantSeries, type Labels, type Point, type QueryData, type RangeSeries } from '../api/client';
import { nativeDistribution, type Distribution } from './buckets';

export interface TableRow {
  key: string;
  labels: Labels;
  name: string;
  /** One value, or those of a range selector, each with its time. */
  values: { text: string; number: number; atMs: number }[];
  /** A native histogram instead of a value. */
  distribution: Distribution | null;
}

/** With more label columns than this a table is wider than any screen; then the series' name is one column. */
export const MOST_LABEL_COLUMNS = 8;

const value = ([second, text]: Point) => ({ text, number: toNumber(text), atMs: second * 1000 });

/** A native histogram in short. */
function histogramText(histogram: unknown): string {
  const { count, sum } = (histogram ?? {}) as { count?: unknown; sum?: unknown };
  return `{count: ${String(count)}, sum: ${String(sum)}}`;
}

function instantRow(series: InstantSeries, key: string): TableRow {
  const [second, histogram] = (series.histogram as [number, unknown] | undefined) ?? [0, null];
  return {
    key,
    labels: series.metric,
    name: seriesName(series.metric),
    values: series.value ? [value(series.value)] : [{ text: histogramText(histogram), number: NaN, atMs: second * 1000 }],
    distribution: series.value ? null : nativeDistribution(histogram),
  };
}

function rangeRow(series: RangeSeries, key: string): TableRow {
  return { key, labels: series.metric, name: seriesName(series.metric), values: (series.values ?? []).map(value), distribution: null };
}

export function tableRows(data: QueryData, prefix: string): TableRow[] {
  switch (data.resultType) {
    case 'vector':
      return data.result.map((series, i) => instantRow(series, `${prefix}:${i}`));
    case 'matrix':
      return data.result.map((series, i) => rangeRow(series, `${prefix}:${i}`));
    default:
      return [{ key: prefix, labels: {}, name: data.resultType, values: [value(data.result)], distribution: null }];
  }
}

/** The labels worth a column: all that occur, the metric's name first. Null if they are too many. */
export function labelColumns(rows: readonly TableRow[]): string[] | null {
  const names = new Set(rows.flatMap((row) => Object.keys(row.labels)));
  if (names.size > MOST_LABEL_COLUMNS) return null;
  return [...names].sort((a, b) => Number(b === '__name__') - Number(a === '__name__') || a.localeCompare(b));
}

/** The largest amount among rows of one value each, which bars are measured by; 0 if there is none to measure. */
export function mostOf(rows: readonly TableRow[]): number {
  return rows.reduce((most, { values }) => {
    const amount = Math.abs(values.length === 1 ? (values[0]?.number ?? NaN) : NaN);
    return Number.isFinite(amount) && amount > most ? amount : most;
  }, 0);
}

/** How long the bar of a row is, in percent of the longest; null where there is none. */
export function barOf(row: TableRow, most: number): number | null {
  const amount = Math.abs(row.values.length === 1 ? (row.values[0]?.number ?? NaN) : NaN);
  if (Number.isNaN(amount) || most === 0) return null;
  return amount === Infinity ? 100 : (100 * amount) / most;
}
