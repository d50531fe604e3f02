/** Which host's figures stand beside a line. */

import type { Labels } from '../api/client';
import { searchValues } from '../api/names';
import { now } from '../time/clock';
import { DAY } from '../time/range';

/** Labels of streams that name a host, as agents, Promtail and OpenTelemetry write them. */
const NAMES = ['host', 'hostname', 'host_name', 'instance', 'node', 'node_name', 'nodename'];
/** How long an answer is believed. */
const FRESH_MS = 60_000;
const MOST = 50;

const known = new Map<string, { atMs: number; instances: Promise<string[]> }>();

function instancesLike(host: string): Promise<string[]> {
  const atMs = Date.now();
  const before = known.get(host);
  if (before && atMs - before.atMs < FRESH_MS) return before.instances;
  const span = { fromMs: now() - 30 * DAY, toMs: now() + DAY };
  const instances = searchValues('instance', { text: withoutPort(host), span, limit: MOST }).then(
    ({ names }) => names.map(({ name }) => name),
    () => {
      known.delete(host);
      return [];
    },
  );
  known.set(host, { atMs, instances });
  return instances;
}

const withoutPort = (instance: string): string => instance.replace(/:\d+$/, '');

/** The one of `instances` that is this host; null if none is. Scraped hosts have a port in their name, lines do not. */
export const instanceOf = (host: string, instances: readonly string[]): string | null =>
  instances.find((one) => one === host) ?? instances.find((one) => withoutPort(one) === withoutPort(host)) ?? null;

/** The host of a stream whose figures are stored; null if none are. */
export async function hostOf(stream: Labels): Promise<string | null> {
  for (const label of NAMES) {
    const host = stream[label];
    if (host === undefined || host === '') continue;
    const found = instanceOf(host, await instancesLike(host));
    if (found !== null) return found;
  }
  return null;
}
