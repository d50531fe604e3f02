/** What the Hosts page shows, as it stands in the address. */

import type { Liveness } from '../live/derive';
import { columnOf, DEFAULT_COLUMNS, METRIC_IDS, type MetricId } from './columns';

export const SHAPES = ['cards', 'table', 'map'] as const;
export type Shape = (typeof SHAPES)[number];

export const STATUSES: readonly Liveness[] = ['live', 'late', 'gone'];
const MOST_COLUMNS = 40;

export interface HostsView {
  /** Null lets the number of hosts decide. */
  shape: Shape | null;
  filter: string;
  status: Liveness | null;
  sort: string;
  reversed: boolean;
  /** The host's name is always the first. */
  columns: readonly string[];
  metric: MetricId;
  /** The label by which the map is grouped; empty for one group. */
  group: string;
  /** The saved view it began as; empty if none. */
  saved: string;
}

/** Older links sort by these. */
const FORMER_SORTS: Record<string, string> = { network: 'in' };

export function parseHostsView(params: URLSearchParams): HostsView {
  const text = (name: string): string => params.get(name) ?? '';
  const sort = FORMER_SORTS[text('sort')] ?? text('sort');
  const listed = text('cols').split(',').filter((id) => id !== 'name' && columnOf(id) !== null);
  return {
    shape: SHAPES.find((shape) => shape === text('view')) ?? null,
    filter: text('q'),
    status: STATUSES.find((status) => status === text('status')) ?? null,
    sort: columnOf(sort) ? sort : 'name',
    reversed: text('order') === 'reverse',
    columns: params.has('cols') ? ['name', ...new Set(listed)].slice(0, MOST_COLUMNS) : DEFAULT_COLUMNS,
    metric: METRIC_IDS.find((id) => id === text('metric')) ?? 'cpu',
    group: text('group'),
    saved: text('saved'),
  };
}

/** The inverse of {@link parseHostsView}; what is as by default is left out. */
export function hostsParams(view: HostsView): URLSearchParams {
  const params = new URLSearchParams();
  const set = (name: string, value: string, usual = '') => {
    if (value !== usual) params.set(name, value);
  };
  set('view', view.shape ?? '');
  set('q', view.filter);
  set('status', view.status ?? '');
  set('sort', view.sort, 'name');
  if (view.reversed) params.set('order', 'reverse');
  const columns = view.columns.join(',');
  if (columns !== DEFAULT_COLUMNS.join(',')) params.set('cols', view.columns.slice(1).join(','));
  set('metric', view.metric, 'cpu');
  set('group', view.group);
  set('saved', view.saved);
  return params;
}

/** What a saved view keeps: everything but its own name. */
export const savedParams = (view: HostsView): string => hostsParams({ ...view, saved: '' }).toString();
