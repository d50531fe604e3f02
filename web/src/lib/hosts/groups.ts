/** Hosts put together by the value of one label. */

import type { Labels } from '../api/client';

export interface Group<T> {
  /** The label's value; empty for hosts without it, and for the only group when none is asked for. */
  value: string;
  hosts: T[];
}

/** Groups in the order of their values, hosts without the label last; hosts keep their order. */
export function groupBy<T extends { labels: Labels }>(hosts: readonly T[], label: string, language: string): Group<T>[] {
  if (label === '') return [{ value: '', hosts: [...hosts] }];
  const groups = new Map<string, T[]>();
  for (const host of hosts) {
    const value = host.labels[label] ?? '';
    const group = groups.get(value);
    if (group) group.push(host);
    else groups.set(value, [host]);
  }
  const collator = new Intl.Collator(language, { numeric: true });
  return [...groups]
    .map(([value, members]) => ({ value, hosts: members }))
    .sort((a, b) => Number(a.value === '') - Number(b.value === '') || collator.compare(a.value, b.value));
}

/** Names of the hosts' labels by which a group is worth it: not those whose every value is one host's. */
export function groupingLabels(hosts: readonly { labels: Labels }[]): string[] {
  const values = new Map<string, Set<string>>();
  for (const { labels } of hosts) {
    for (const [name, value] of Object.entries(labels)) {
      const found = values.get(name);
      if (found) found.add(value);
      else values.set(name, new Set([value]));
    }
  }
  return [...values]
    .filter(([name, found]) => name !== 'instance' && (hosts.length < 3 || found.size < hosts.length))
    .map(([name]) => name)
    .sort();
}
