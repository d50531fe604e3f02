/** Running a query of the Logs page: its lines, and its counts. */

import { ApiError } from '../api/client';
import { logInstant, logRange, nsOf } from '../api/loki';
import { linesOf, type Line } from './line';
import { countable, type LogQuery } from './logql';
import { planOf, volumeOf, type Buckets, type Volume } from './volume';

export interface Failure {
  /** The API's error type; `network` if there was no answer. */
  type: string;
  message: string;
}

export const failureOf = (error: unknown): Failure =>
  error instanceof ApiError ? { type: error.type, message: error.message } : { type: 'unknown', message: String(error) };

export interface Page {
  /** The oldest first. */
  lines: Line[];
  /** What asks for the lines that follow; null if there are none. */
  next: string | null;
  warnings: string[];
  tookMs: number;
  bytesRead: number;
}

export interface Times {
  startNs: string;
  endNs: string;
}

/** What asks for the first page. */
export const FIRST_PAGE = 'first';

/** A page of the lines between two times, from the newest on (`backward`) or from the oldest. */
export async function fetchPage(query: string, { startNs, endNs }: Times, direction: 'backward' | 'forward', limit: number, cursor: string, signal?: AbortSignal): Promise<Page> {
  const { data, nextCursor, warnings, tookMs, bytesRead } = await logRange(query, { startNs, endNs, limit, direction, cursor }, signal);
  return { lines: data.resultType === 'streams' ? linesOf(data.result, direction) : [], next: nextCursor, warnings, tookMs, bytesRead };
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
