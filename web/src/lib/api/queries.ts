/** Which queries run, which ran lately, and how one is stopped; VictoriaMetrics' shapes. */

import { get, getWhole, send } from './client';

/** Empty of what is no query. */
export type Language = 'promql' | 'logql' | '';

/** One that runs. */
export interface RunningQuery {
  id: string;
  /** A query, or the path and selectors of another request that reads. */
  query: string;
  language: Language;
  remote_addr: string;
  /** Such as `1.234s`. */
  duration: string;
  /** Milliseconds since 1970, and milliseconds; the step of an instant is 0, and all of what is no query. */
  start: number;
  end: number;
  step: number;
  /** Memory held now and at most. */
  bytes: number;
  peak_bytes: number;
  /** Read so far. */
  samples: number;
}

/** What queries of one text over one length of time took together. */
export interface TopQuery {
  query: string;
  language: Language;
  tenant: string;
  timeRangeSeconds: number;
  count: number;
  avgDurationSeconds: number;
  maxDurationSeconds: number;
  sumDurationSeconds: number;
  peakBytes: number;
  sumSamples: number;
}

/** The figures that order the list, and the field of the answer that is in this order. */
export const TOP_LISTS = {
  maxDurationSeconds: 'topByMaxDuration',
  avgDurationSeconds: 'topByAvgDuration',
  sumDurationSeconds: 'topBySumDuration',
  count: 'topByCount',
  peakBytes: 'topByPeakBytes',
  sumSamples: 'topBySumSamples',
} as const;
export type TopFigure = keyof typeof TOP_LISTS;
export type TopAnswer = Record<(typeof TOP_LISTS)[TopFigure], TopQuery[]>;

export const runningQueries = (signal?: AbortSignal): Promise<RunningQuery[]> =>
  get<RunningQuery[]>('/api/v1/status/active_queries', signal);

export const topQueries = (most: number, lifetime: string, signal?: AbortSignal): Promise<TopAnswer> =>
  getWhole<TopAnswer>(`/api/v1/status/top_queries?topN=${most}&maxLifetime=${lifetime}`, signal);

export const stopQuery = (id: string): Promise<unknown> =>
  send('DELETE', `/api/v1/status/active_queries/${encodeURIComponent(id)}`);

/** Where a query can be asked again; null for what is none. */
export function askedAt(query: string, language: Language, rangeSeconds: number): string | null {
  if (language === '') return null;
  const params = new URLSearchParams({ q: query });
  if (rangeSeconds > 0) params.set('range', `${rangeSeconds}s`);
  else if (language === 'promql') params.set('tab', 'table');
  return `/${language === 'promql' ? 'explore' : 'logs'}?${params}`;
}

/** Samples per second that each query read between two looks; null where there was no earlier one. */
export function readRates(
  before: { atMs: number; list: readonly RunningQuery[] } | null,
  after: { atMs: number; list: readonly RunningQuery[] },
): Map<string, number | null> {
  const known = new Map(before?.list.map((query) => [query.id, query.samples]));
  const seconds = before === null ? 0 : (after.atMs - before.atMs) / 1000;
  return new Map(
    after.list.map(({ id, samples }) => {
      const earlier = known.get(id);
      return [id, earlier === undefined || seconds <= 0 ? null : (samples - earlier) / seconds];
    }),
  );
}
