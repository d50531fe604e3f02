/** Running a query of the Logs page: its lines, its counts, or its series. */

import { ApiError, type QueryData } from '../api/client';
import { logInstant, logRange, nextNs, nsOf } from '../api/loki';
import { gridOf, type Grid } from '../chart/frame';
import { linesOf, withoutKnown, type Line } from './line';
import { countable, type LogQuery } from './logql';
import { planOf, volumeOf, type Buckets, type Volume } from './volume';

export interface Failure {
  /** The API's error type; `network` if there was no answer. */
  type: string;
  message: string;
}

export const failureOf = (error: unknown): Failure =>
  error instanceof ApiError ? { type: error.type, message: error.message } : { type: 'unknown', message: String(error) };

export interface Batch {
  lines: Line[];
  /** Whether there may be more where these end. */
  hasMore: boolean;
  warnings: string[];
  tookMs: number;
}

export interface Times {
  startNs: string;
  endNs: string;
}

/** The newest (`backward`) or oldest lines between two times. */
export async function fetchLines(query: string, { startNs, endNs }: Times, direction: 'backward' | 'forward', limit: number, signal?: AbortSignal): Promise<Batch> {
  const { data, warnings, tookMs } = await logRange(query, { startNs, endNs, limit, direction }, signal);
  const lines = data.resultType === 'streams' ? linesOf(data.result, direction) : [];
  return { lines, hasMore: lines.length >= limit, warnings, tookMs };
}

/** Lines before the oldest of `known`, or after the newest: what goes on where they end. */
export async function fetchBeyond(query: string, times: Times, known: readonly Line[], direction: 'backward' | 'forward', limit: number, signal?: AbortSignal): Promise<Batch> {
  const edge = direction === 'backward' ? known[0] : known[known.length - 1];
  if (!edge) return fetchLines(query, times, direction, limit, signal);
  const next = direction === 'backward' ? { ...times, endNs: nextNs(edge.ns) } : { ...times, startNs: edge.ns };
  // Lines of the time at the edge come once more; the limit must leave room for others.
  const again = known.reduce((count, { ns }) => count + (ns === edge.ns ? 1 : 0), 0);
  const asked = Math.min(MOST_PER_REQUEST, limit + again);
  const batch = await fetchLines(query, next, direction, asked, signal);
  const lines = withoutKnown(batch.lines, known, edge.ns);
  // An answer full of lines of that one time cannot go on: the API knows no place within a time.
  return { ...batch, lines, hasMore: batch.hasMore && lines.length > 0 };
}

/** Loki's limit of one answer. */
export const MOST_PER_REQUEST = 5000;

/**
 * Counts the lines of a query by level. Windows hold their end and not their beginning, times of lists the other
 * way round: so all windows lie a nanosecond earlier.
 */
export async function fetchVolume(text: string, query: LogQuery, buckets: Buckets, signal?: AbortSignal): Promise<Volume> {
  const plan = planOf(buckets);
  const lines = countable(text, query);
  const counted = (ms: number) => `sum by (detected_level) (count_over_time(${lines}\n[${ms}ms] offset 1ns))`;
  const whole = async () => {
    if (!plan.range) return [];
    const { data } = await logRange(
      counted(buckets.stepMs),
      { startNs: nsOf(plan.range.firstEndMs), endNs: nsOf(plan.range.lastEndMs), stepMs: buckets.stepMs },
      signal,
    );
    return data.resultType === 'matrix' ? data.result : [];
  };
  const { edges } = volumeOf(buckets, [], []);
  const single = plan.single.map(async (at) => {
    const [from, to] = [edges[at] as number, edges[at + 1] as number];
    const series = await logInstant(counted(Math.round(to - from)), nsOf(to), signal);
    return series.map(({ metric, value }) => ({ at, level: metric.detected_level, count: Number(value[1]) }));
  });
  const [series, ...singles] = await Promise.all([whole(), ...single]);
  return volumeOf(buckets, series, singles.flat());
}

export interface Series {
  data: QueryData;
  grid: Grid;
  warnings: string[];
  tookMs: number;
}

/** The series of a query of numbers, for a graph. */
export async function fetchSeries(text: string, { fromMs, toMs, stepMs }: Buckets, signal?: AbortSignal): Promise<Series> {
  const grid = gridOf(fromMs, toMs, stepMs);
  const { data, warnings, tookMs } = await logRange(text, { startNs: nsOf(grid.fromMs), endNs: nsOf(grid.toMs), stepMs }, signal);
  return { data: data.resultType === 'matrix' ? data : { resultType: 'matrix', result: [] }, grid, warnings, tookMs };
}
