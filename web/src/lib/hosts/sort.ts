/** The order of hosts. */

import type { HostVitals } from '../metrics/fleet.svelte';
import { columnOf, type Column } from './columns';

/** Amounts are sought for their largest, texts from A on. */
export const isDescendingByNature = (column: Column): boolean => column.amount !== undefined;

/**
 * The hosts in the order of a column, the other way round if `reversed`. Hosts without a value come last either
 * way; among equals the name decides. An unknown column sorts by name.
 */
export function sortHosts(hosts: readonly HostVitals[], by: string, reversed: boolean, language: string): HostVitals[] {
  const collator = new Intl.Collator(language, { numeric: true });
  const byName = (a: HostVitals, b: HostVitals) =>
    collator.compare(a.instance, b.instance) || collator.compare(a.job, b.job);
  const column = columnOf(by);
  if (column === null || by === 'name') return [...hosts].sort((a, b) => (reversed ? byName(b, a) : byName(a, b)));
  // Each key once, not once per comparison.
  const keyed = hosts.map((host) => ({ host, key: column.amount ? column.amount(host) : column.text(host) }));
  const descends = isDescendingByNature(column) !== reversed;
  keyed.sort((a, b) => {
    const emptyA = a.key === null || a.key === '' || Number.isNaN(a.key);
    const emptyB = b.key === null || b.key === '' || Number.isNaN(b.key);
    if (emptyA || emptyB) return Number(emptyA) - Number(emptyB) || byName(a.host, b.host);
    const order =
      typeof a.key === 'number' ? a.key - (b.key as number) : collator.compare(a.key as string, b.key as string);
    return (descends ? -order : order) || byName(a.host, b.host);
  });
  return keyed.map(({ host }) => host);
}
