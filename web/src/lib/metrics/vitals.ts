/** The few figures that say how a host is, as PromQL over all hosts at once. */

import { formatDuration } from '../time/range';
import { rateWindow } from '../live/derive';

/** Mounts that are always full or always empty and say nothing about a disk. */
const PSEUDO_FILESYSTEMS = 'tmpfs|ramfs|devtmpfs|overlay|squashfs|iso9660|erofs|nsfs|fuse.*|autofs';
/** Devices that carry the same packets as the physical one, or none that leave the host. */
const VIRTUAL_DEVICES = 'lo|veth.*|docker.*|br-.*|virbr.*|cni.*|flannel.*|cali.*|ifb.*|dummy.*|tun.*|tap.*';

/** Devices whose bytes are counted again on the disks below them, or that are no disks. */
const STACKED_DEVICES = 'dm-.*|md.*|loop.*|ram.*|zram.*|sr.*|fd.*|nbd.*';

export const REAL_FILESYSTEM = { label: 'fstype', op: '!~', value: PSEUDO_FILESYSTEMS } as const;
export const PHYSICAL_DEVICE = { label: 'device', op: '!~', value: VIRTUAL_DEVICES } as const;

/** Every host has this one; it tells who is there. */
export const PRESENCE_METRIC = 'node_load1';

const BY = 'by (instance, job)';

/** All devices of a host together, of which each counts once also where two Prometheus collect the same host. */
const perDevice = (rates: string): string => `sum ${BY} (avg by (instance, job, device) (${rates}))`;

/**
 * One expression for hosts of different collection intervals: the rate over the shortest window that has
 * data wins, host by host.
 */
function rated(of: (window: string) => string, intervalsMs: readonly number[]): string {
  const windows = [...new Set(intervalsMs.map(rateWindow))].sort((a, b) => a - b);
  return windows.map((ms) => of(formatDuration(ms))).join(' or ');
}

export const VITALS = ['cpu', 'memory', 'swap', 'disk', 'diskIo', 'networkIn', 'networkOut', 'load1', 'seen'] as const;
export type Vital = (typeof VITALS)[number];

/** The expression of each vital, given the intervals at which the hosts at hand are collected. */
export function vitalQueries(intervalsMs: readonly number[]): Record<Vital, string> {
  const network = (metric: string) =>
    rated((w) => `${perDevice(`rate(${metric}{device!~"${VIRTUAL_DEVICES}"}[${w}])`)} * 8`, intervalsMs);
  const disk = (what: string, w: string) =>
    perDevice(`rate(node_disk_${what}_bytes_total{device!~"${STACKED_DEVICES}"}[${w}])`);
  // Like df: of what users may fill, without the blocks kept back for root.
  const used = `(node_filesystem_size_bytes{fstype!~"${PSEUDO_FILESYSTEMS}"} - node_filesystem_free_bytes)`;
  return {
    cpu: rated((w) => `100 - 100 * avg ${BY} (rate(node_cpu_seconds_total{mode="idle"}[${w}]))`, intervalsMs),
    memory: `100 - 100 * max ${BY} (node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)`,
    // Hosts without swap are left out: nothing of nothing is no share.
    swap: `100 - 100 * max ${BY} (node_memory_SwapFree_bytes / (node_memory_SwapTotal_bytes > 0))`,
    // Only the fullest of each host: all mounts of a large fleet are more than one answer may hold.
    disk: `100 * topk ${BY} (1, max by (instance, job, mountpoint) (${used} / (${used} + node_filesystem_avail_bytes > 0)))`,
    diskIo: rated((w) => `(${disk('read', w)} + ${disk('written', w)})`, intervalsMs),
    networkIn: network('node_network_receive_bytes_total'),
    networkOut: network('node_network_transmit_bytes_total'),
    load1: `max ${BY} (node_load1)`,
    seen: `max ${BY} (timestamp(${PRESENCE_METRIC}))`,
  };
}

/** What changes slowly is evaluated this many times less often. */
const SLOWNESS: Partial<Record<Vital, number>> = { disk: 10, swap: 5 };
const SLOWEST_MS = 30_000;

/**
 * How often each vital of `hosts` hosts is worth evaluating, in milliseconds: never more often than the fastest
 * host is collected, and less often the more there are, since every evaluation reads all of them.
 */
export function vitalIntervals(hosts: number, intervalsMs: readonly number[]): Record<Vital, number> {
  const affordable = hosts <= 50 ? 1000 : hosts <= 200 ? 2000 : hosts <= 1000 ? 5000 : 10_000;
  const base = Math.max(affordable, Math.min(5000, ...intervalsMs));
  const of = (vital: Vital): number => Math.max(base, Math.min(SLOWEST_MS, base * (SLOWNESS[vital] ?? 1)));
  return Object.fromEntries(VITALS.map((vital) => [vital, of(vital)])) as Record<Vital, number>;
}

export const FACT_QUERIES = {
  uname: 'node_uname_info',
  os: 'node_os_info',
  boot: `max ${BY} (node_boot_time_seconds)`,
  cores: `count ${BY} (group by (instance, job, cpu) (node_cpu_seconds_total{mode="idle"}))`,
  memoryTotal: `max ${BY} (node_memory_MemTotal_bytes)`,
} as const;
export type Fact = keyof typeof FACT_QUERIES;
