/** What the Logs page shows, as it stands in the address. */

import { MINUTE, parseRange, rangeParams, type Range } from '../time/range';

export const TABS = ['lines', 'patterns'] as const;
export type Tab = (typeof TABS)[number];

export interface LogView {
  /** Empty: all lines. */
  query: string;
  range: Range;
  tab: Tab;
  /** Whether the oldest line stands first. */
  oldestFirst: boolean;
  live: boolean;
  wrap: boolean;
  /** Whether JSON is set over several lines. */
  pretty: boolean;
  /** Whether the list of fields stands beside the lines. */
  showsFields: boolean;
  /** Fields that have a column of their own. */
  columns: string[];
}

export const DEFAULT_SPAN = 60 * MINUTE;
/** All streams have this label, also those that came without: the server gives it to them. */
export const EVERYTHING = '{service_name=~".+"}';
const MOST_COLUMNS = 8;

export function parseLogView(params: URLSearchParams): LogView {
  const has = (name: string) => params.get(name) === '1';
  return {
    query: params.get('q') ?? '',
    range: parseRange(params, DEFAULT_SPAN),
    tab: TABS.find((tab) => tab === params.get('tab')) ?? 'lines',
    oldestFirst: params.get('order') === 'oldest',
    live: has('live'),
    wrap: has('wrap'),
    pretty: has('pretty'),
    showsFields: has('fields'),
    columns: [...new Set((params.get('columns') ?? '').split(',').filter((name) => name !== ''))].slice(0, MOST_COLUMNS),
  };
}

/** The inverse of {@link parseLogView}; what is as by default is left out. */
export function logViewParams(view: LogView): URLSearchParams {
  const params = new URLSearchParams();
  if (view.query.trim() !== '') params.set('q', view.query);
  for (const [name, value] of Object.entries(rangeParams(view.range))) if (value !== null) params.set(name, value);
  if (view.tab !== 'lines') params.set('tab', view.tab);
  if (view.oldestFirst) params.set('order', 'oldest');
  if (view.live) params.set('live', '1');
  if (view.wrap) params.set('wrap', '1');
  if (view.pretty) params.set('pretty', '1');
  if (view.showsFields) params.set('fields', '1');
  if (view.columns.length > 0) params.set('columns', view.columns.join(','));
  return params;
}
