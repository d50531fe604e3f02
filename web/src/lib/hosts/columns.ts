/** The columns of the table of hosts, and what each sorts by. */

import { duration } from '../format/time';
import { format, type Unit } from '../format/units';
import type { Key } from '../i18n/index.svelte';
import type { HostVitals } from '../metrics/fleet.svelte';
import { now } from '../time/clock';

export interface Column {
  /** As in the address; those of labels are `label:NAME`. */
  id: string;
  /** The title's key; a label's column is titled by the label. */
  title: Key | null;
  label?: string;
  /** Width in pixels. */
  width: number;
  /** What it sorts by as an amount, largest first; absent for texts, which sort from A on. */
  amount?: (host: HostVitals) => number | null;
  text: (host: HostVitals) => string;
  /** Shares of a whole are drawn as a bar as well. */
  isShare?: boolean;
}

const measured = (id: MetricId, width: number): Column => {
  const { title, unit, of } = METRICS[id];
  const column: Column = { id, title, width, amount: of, text: (host) => metricText(id, host) };
  return unit === 'percent' ? { ...column, isShare: true } : column;
};

/** What a host is measured by; also what the map may be coloured by. */
export const METRICS = {
  cpu: { title: 'vitals.cpu', unit: 'percent', top: 100, of: (host) => host.cpu },
  load: {
    title: 'hosts.column.load',
    unit: 'number',
    top: null,
    of: (host) => (host.load1 === null || !host.cores ? null : host.load1 / host.cores),
  },
  memory: { title: 'vitals.memory', unit: 'percent', top: 100, of: (host) => host.memory },
  swap: { title: 'hosts.column.swap', unit: 'percent', top: 100, of: (host) => host.swap },
  disk: { title: 'hosts.column.disk', unit: 'percent', top: 100, of: (host) => host.disk },
  io: { title: 'hosts.column.io', unit: 'bytesPerSecond', top: null, of: (host) => host.diskIo },
  in: { title: 'hosts.column.in', unit: 'bitsPerSecond', top: null, of: (host) => host.networkIn },
  out: { title: 'hosts.column.out', unit: 'bitsPerSecond', top: null, of: (host) => host.networkOut },
} as const satisfies Record<string, Metric>;
export type MetricId = keyof typeof METRICS;

export interface Metric {
  title: Key;
  unit: Unit;
  /** Top of its scale; null if that depends on the values. */
  top: number | null;
  of: (host: HostVitals) => number | null;
}

/** A metric of a host in words; loads keep their decimals, so that they can be compared at a glance. */
export function metricText(id: MetricId, host: HostVitals): string {
  const value = METRICS[id].of(host);
  return id === 'load' && value !== null ? value.toFixed(2) : format(value, METRICS[id].unit);
}

export const METRIC_IDS = Object.keys(METRICS) as MetricId[];

/** Seconds since the newest sample. */
const age = (host: HostVitals): number | null => (host.seenMs === null ? null : Math.max(0, now() - host.seenMs) / 1000);
const uptime = (host: HostVitals): number | null =>
  host.bootSeconds === null ? null : Math.max(0, now() / 1000 - host.bootSeconds);
const orDash = (seconds: number | null): string => (seconds === null ? '–' : duration(seconds));

export const FIXED_COLUMNS: readonly Column[] = [
  { id: 'name', title: 'hosts.column.host', width: 190, text: (host) => host.instance },
  { id: 'seen', title: 'hosts.column.seen', width: 118, amount: age, text: (host) => orDash(age(host)) },
  measured('cpu', 110),
  measured('load', 100),
  measured('memory', 110),
  measured('swap', 110),
  measured('disk', 120),
  measured('io', 100),
  measured('in', 104),
  measured('out', 112),
  { id: 'uptime', title: 'hosts.column.uptime', width: 94, amount: uptime, text: (host) => orDash(uptime(host)) },
  { id: 'cores', title: 'hosts.column.cores', width: 80, amount: (host) => host.cores, text: (host) => format(host.cores, 'number') },
  {
    id: 'ram',
    title: 'hosts.column.ram',
    width: 112,
    amount: (host) => host.memoryTotal,
    text: (host) => format(host.memoryTotal, 'bytes'),
  },
  { id: 'os', title: 'hosts.column.os', width: 120, text: (host) => host.os },
  { id: 'kernel', title: 'hosts.column.kernel', width: 180, text: (host) => host.kernel },
];

export const DEFAULT_COLUMNS: readonly string[] = [
  'name', 'seen', 'cpu', 'load', 'memory', 'swap', 'disk', 'io', 'in', 'out', 'uptime', 'os',
];

const LABEL = 'label:';

/** The column of an id, also of labels; null if there is none. */
export function columnOf(id: string): Column | null {
  if (!id.startsWith(LABEL)) return FIXED_COLUMNS.find((column) => column.id === id) ?? null;
  const label = id.slice(LABEL.length);
  return /^[a-zA-Z_][a-zA-Z0-9_]*$/.test(label)
    ? { id, title: null, label, width: 132, text: (host) => host.labels[label] ?? '' }
    : null;
}

export const labelColumn = (label: string): string => LABEL + label;
