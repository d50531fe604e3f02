/** Where the series of a day come from: VictoriaMetrics' figures, and how they differ from another day. */

import { get, quote } from './client';

export interface Entry {
  name: string;
  value: number;
  /** These only if two days are compared: how many there were, and how many of those there are were not. */
  previous?: number;
  new?: number;
}

export const LISTS = [
  'seriesCountByMetricName',
  'seriesCountByLabelValuePair',
  'labelValueCountByLabelName',
  'seriesCountByLabelName',
] as const;
export type List = (typeof LISTS)[number];

export type Cardinality = Record<List | 'seriesCountByFocusLabelValue', Entry[]> & {
  totalSeries: number;
  totalLabelValuePairs: number;
  totalSeriesPrevious?: number;
  newSeries?: number;
  endedSeries?: number;
  totalLabelValuePairsPrevious?: number;
};

export const SORTS = ['series', 'new', 'change'] as const;
export type Sort = (typeof SORTS)[number];

export interface Wanted {
  /** Days as `YYYY-MM-DD`, in UTC. */
  date: string;
  /** The day to compare with; empty for none. */
  compare: string;
  sort: Sort;
  top: number;
  /** A selector; empty for all series. */
  match: string;
  focusLabel: string;
}

export function cardinality(wanted: Wanted, signal?: AbortSignal): Promise<Cardinality> {
  const params = new URLSearchParams({ date: wanted.date, topN: String(wanted.top) });
  if (wanted.compare !== '') {
    params.set('compare', wanted.compare);
    params.set('sort', wanted.sort);
  }
  if (wanted.match !== '') params.append('match[]', wanted.match);
  if (wanted.focusLabel !== '') params.set('focusLabel', wanted.focusLabel);
  return get<Cardinality>(`/api/v1/status/tsdb?${params}`, signal);
}

const DAY_MS = 86_400_000;

/** The day, in UTC, that a moment lies in. */
export const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

/** So many days later, or earlier. */
export const shiftDay = (day: string, days: number): string => dayOf(Date.parse(`${day}T00:00:00Z`) + days * DAY_MS);

/** A label matcher as it stands in a selector; names that are no plain words are quoted. */
const matcher = (label: string, value: string): string =>
  `${/^[A-Za-z_][A-Za-z0-9_]*$/.test(label) ? label : quote(label)}=${quote(value)}`;

/** A selector that also demands the label. */
export function narrowed(selector: string, label: string, value: string): string {
  const text = selector.trim();
  const added = matcher(label, value);
  if (text === '') return `{${added}}`;
  if (!text.endsWith('}')) return `${text}{${added}}`;
  const head = text.slice(0, -1).trimEnd();
  if (head.includes(added)) return text;
  return head.endsWith('{') || head.endsWith(',') ? `${head}${added}}` : `${head}, ${added}}`;
}

/** `name=value`, taken apart. */
export function pairOf(text: string): [string, string] {
  const at = text.indexOf('=');
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}
