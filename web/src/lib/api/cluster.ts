/** The state of the cluster that the server belongs to, or of one machine. */

import { certificates } from './access';
import { getAll, getAnswer } from './client';

export type Level = 'ok' | 'warn' | 'bad';

export interface Amount {
  count: number;
  bytes: number;
}

export interface Finding {
  code: string;
  level: Level;
  values: Record<string, string | number>;
}

export interface Operation {
  operation: string;
  requests: number;
  /** Upper bounds in milliseconds; null if slower than all. */
  p50Ms: number | null;
  p99Ms: number | null;
  errors: Record<string, number>;
}

export interface StoreReport {
  store: string;
  url: string;
  windowMs: number;
  operations: Operation[];
  cache: { hits: number; misses: number; neighbours: number; bytes: number } | null;
}

export interface TenantLoad {
  name: string;
  samplesPerSecond: number | null;
  activeSeries: number;
  maxActiveSeries: number;
}

export interface Report {
  version: string;
  nowMs: number;
  startedMs: number;
  appliedIndex: number;
  waitingBytes: number;
  stores: StoreReport[];
  tenants: TenantLoad[];
  missing: string[];
  /** How far it is on its way out of the cluster; null while nobody asked it to leave, absent where it is older. */
  drain?: Drain | null;
}

export interface Drain {
  step: 'serving' | 'finishing' | 'flushing' | 'leaving' | 'left';
  /** In no block yet. */
  segments: number;
  segmentBytes: number;
  /** Why it does not get on, in the words of the server; it goes on trying. */
  trouble: string | null;
}

export interface Member {
  id: string;
  name: string;
  address: string;
  zone: string;
  liveness: 'alive' | 'silent' | 'unknown';
  silentMs: number;
  isDraining: boolean;
  hasLeft: boolean;
  part: 'voter' | 'learner' | 'none';
  isLeader: boolean;
  epoch: number;
  lagEntries: number | null;
  ringShare: number;
  segments: Amount;
  segmentRows: number;
  unflushedMs: number;
  report: Report | null;
  fault: string;
  clockAheadMs: number | null;
}

export interface Lease {
  job: string;
  holder: string;
  holderName: string;
  term: number;
  untilMs: number;
}

export interface Cluster {
  isCluster: boolean;
  verdict: Level;
  findings: Finding[];
  asked: string;
  nowMs: number;
  consensus: {
    leader: string | null;
    term: number;
    lastIndex: number;
    appliedIndex: number;
    voters: number;
    votersAlive: number;
    majority: number;
    stopped: string | null;
  } | null;
  members: Member[];
  ringEpoch: number;
  leases: Lease[];
  leaseCount: number;
  segments: Amount;
  blocks: Amount;
  tenants: TenantLoad[];
}

/** Of all tenants, whichever is chosen: a cluster is nobody's. */
export const clusterStatus = (signal?: AbortSignal): Promise<Cluster> => getAll<Cluster>('/api/v1/status/cluster', signal);

/** Has a broker begin to leave; whichever is asked passes it on. */
export const drainBroker = async (name: string): Promise<Drain> => (await getAnswer<Drain>('/api/v1/cluster/drain', { name })).data;

/** Takes a broker out that is gone for good, and makes its name free. `id` tells it from others of its name. */
export async function removeBroker({ id, name }: { id: string; name: string }): Promise<void> {
  await getAnswer<unknown>('/api/v1/cluster/remove', { name: id });
  const listed = await certificates.list();
  if (listed.some((one) => one.role === 'broker' && one.name === name)) await certificates.revoke(name);
}
