/** The groups of the Pushgateway's API, `GET /api/v1/metrics`, in a shape fit to show. */

import { toNumber, type Labels } from '../../lib/api/client';

interface WireFamily {
  type: string;
  help?: string;
  metrics: { labels: Labels; value?: string }[];
}

export type WireGroup = { labels: Labels; last_push_successful: boolean; brokerCluster?: string } & Record<string, unknown>;

export interface Family {
  name: string;
  type: string;
  help: string;
  metrics: { labels: Labels; value: string }[];
}

export interface Group {
  /** Where it is pushed and deleted, and what tells it apart. */
  path: string;
  key: string;
  /** Whose it is, where this console shows several clusters. */
  cluster: string;
  labels: Labels;
  succeeded: boolean;
  /** Seconds since 1970; 0 if there was none. */
  pushed: number;
  failed: number;
  families: Family[];
}

const OWN = ['push_time_seconds', 'push_failure_time_seconds'];

const isFamily = (value: unknown): value is WireFamily =>
  typeof value === 'object' && value !== null && Array.isArray((value as { metrics?: unknown }).metrics);

/** The labels that are the group's own are left out of its metrics: they are told once. */
export function read(wire: WireGroup): Group {
  const time = (name: string): number => {
    const family = wire[name];
    return isFamily(family) ? toNumber(family.metrics[0]?.value ?? '0') : 0;
  };
  const families = Object.entries(wire).flatMap(([name, family]): Family[] => {
    if (OWN.includes(name) || !isFamily(family)) return [];
    const metrics = family.metrics.map(({ labels, value = '' }) => ({
      labels: Object.fromEntries(Object.entries(labels).filter(([label]) => !(label in wire.labels))),
      value,
    }));
    return [{ name, type: family.type.toLowerCase(), help: family.help ?? '', metrics }];
  });
  return {
    path: path(wire.labels),
    key: `${wire.brokerCluster ?? ''}${path(wire.labels)}`,
    cluster: wire.brokerCluster ?? '',
    labels: wire.labels,
    succeeded: wire.last_push_successful,
    pushed: time('push_time_seconds'),
    failed: time('push_failure_time_seconds'),
    families: families.sort((a, b) => (a.name < b.name ? -1 : 1)),
  };
}

/** Where a group is pushed and deleted; values that no path can hold go in base64. */
export function path(labels: Labels): string {
  const { job = '', ...rest } = labels;
  const part = (name: string, value: string): string =>
    /^[A-Za-z0-9._-]+$/.test(value) && !/^\.+$/.test(value) ? `${name}/${value}` : `${name}@base64/${base64(value)}`;
  const others = Object.entries(rest).sort(([a], [b]) => (a < b ? -1 : 1));
  return ['/metrics', part('job', job), ...others.map(([name, value]) => part(name, value))].join('/');
}

/** Of the URL alphabet; one sign of padding stands for nothing, since a path has no empty parts. */
function base64(text: string): string {
  const letters = String.fromCharCode(...new TextEncoder().encode(text));
  return btoa(letters).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '') || '=';
}
