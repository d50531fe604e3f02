/** What Explore shows, as it stands in the address. */

import { formatDuration, MINUTE, parseDuration, parseRange, rangeParams, type Range } from '../time/range';

export const TABS = ['graph', 'heatmap', 'table', 'explain'] as const;
export type Tab = (typeof TABS)[number];

export interface View {
  queries: { expr: string; hidden: boolean }[];
  range: Range;
  tab: Tab;
  /** Milliseconds; null lets the width of the graph decide. */
  stepMs: number | null;
  refreshMs: number | null;
  stacked: boolean;
  /** Whether exemplars are drawn upon the graph. */
  exemplars: boolean;
}

export const DEFAULT_SPAN = 60 * MINUTE;
export const REFRESHES: readonly number[] = [1000, 5000, 15_000, MINUTE];
export const MOST_QUERIES = 10;

export function parseView(params: URLSearchParams): View {
  const hidden = new Set((params.get('hide') ?? '').split(',').filter((text) => text !== ''));
  const exprs = params.getAll('q').slice(0, MOST_QUERIES);
  const refreshMs = parseDuration(params.get('refresh') ?? '');
  return {
    queries: (exprs.length > 0 ? exprs : ['']).map((expr, i) => ({ expr, hidden: hidden.has(String(i)) })),
    range: parseRange(params, DEFAULT_SPAN),
    tab: TABS.find((tab) => tab === params.get('tab')) ?? 'graph',
    stepMs: parseDuration(params.get('step') ?? ''),
    refreshMs: REFRESHES.includes(refreshMs ?? 0) ? refreshMs : null,
    stacked: params.get('stack') === '1',
    exemplars: params.get('exemplars') === '1',
  };
}

/** The inverse of {@link parseView}; what is as by default is left out. */
export function viewParams(view: View): URLSearchParams {
  const params = new URLSearchParams();
  for (const { expr } of view.queries) params.append('q', expr);
  const hidden = view.queries.flatMap((query, i) => (query.hidden ? [i] : []));
  if (hidden.length > 0) params.set('hide', hidden.join(','));
  for (const [name, value] of Object.entries(rangeParams(view.range))) if (value !== null) params.set(name, value);
  if (view.tab !== 'graph') params.set('tab', view.tab);
  if (view.stepMs !== null) params.set('step', formatDuration(view.stepMs));
  if (view.refreshMs !== null) params.set('refresh', formatDuration(view.refreshMs));
  if (view.stacked) params.set('stack', '1');
  if (view.exemplars) params.set('exemplars', '1');
  return params;
}

export const letterOf = (index: number): string => String.fromCharCode(65 + index);
