/** What the Logs page shows, as it stands in the address. */

import { MINUTE, parseRange, rangeParams, type Range } from '../time/range';

/** What a query of lines can be seen as, and what one of numbers. */
export const LINE_TABS = ['lines', 'groups', 'patterns'] as const;
export const NUMBER_TABS = ['graph', 'table'] as const;
const TABS = [...LINE_TABS, ...NUMBER_TABS];
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
  /** The field by whose values lines are grouped; empty: one that the page chooses. */
  group: string;
  /** The time, in nanoseconds, of a line that is to be seen opened; empty: none. */
  line: string;
  /** Name of the saved view this one began as; empty: none. */
  saved: string;
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
    group: params.get('group') ?? '',
    line: /^\d{1,20}$/.exec(params.get('line') ?? '')?.[0] ?? '',
    saved: params.get('saved') ?? '',
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
  if (view.group !== '') params.set('group', view.group);
  if (view.line !== '') params.set('line', view.line);
  if (view.saved !== '') params.set('saved', view.saved);
  return params;
}

/** What of a view is saved under a name: all but which one it is, and a line of it. */
export const savedParams = (view: LogView): string => logViewParams({ ...view, saved: '', line: '' }).toString();
