/** An instant answer as rows of a table. */

import { seriesName, toNumber, type InstantSeries, type Labels, type Point, type QueryData, type RangeSeries } from '../api/client';

export interface TableRow {
  key: string;
  labels: Labels;
  name: string;
  /** One value, or those of a range selector, each with its time. */
  values: { text: string; number: number; atMs: number }[];
}

/** With more label columns than this a table is wider than any screen; then the series' name is one column. */
export const MOST_LABEL_COLUMNS = 8;

const value = ([second, text]: Point) => ({ text, number: toNumber(text), atMs: second * 1000 });

/** A native histogram in short; its buckets would need a page of their own. */
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
  };
}

function rangeRow(series: RangeSeries, key: string): TableRow {
  return { key, labels: series.metric, name: seriesName(series.metric), values: (series.values ?? []).map(value) };
}

export function tableRows(data: QueryData, prefix: string): TableRow[] {
  switch (data.resultType) {
    case 'vector':
      return data.result.map((series, i) => instantRow(series, `${prefix}:${i}`));
    case 'matrix':
      return data.result.map((series, i) => rangeRow(series, `${prefix}:${i}`));
    default:
      return [{ key: prefix, labels: {}, name: data.resultType, values: [value(data.result)] }];
  }
}

/** The labels worth a column: all that occur, the metric's name first. Null if they are too many. */
export function labelColumns(rows: readonly TableRow[]): string[] | null {
  const names = new Set(rows.flatMap((row) => Object.keys(row.labels)));
  if (names.size > MOST_LABEL_COLUMNS) return null;
  return [...names].sort((a, b) => Number(b === '__name__') - Number(a === '__name__') || a.localeCompare(b));
}
