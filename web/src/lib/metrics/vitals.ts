/** The few figures that say how a host is, as PromQL over all hosts at once. */

import { formatDuration } from '../time/range';
import { rateWindow } from '../live/derive';

/** Mounts that are always full or always empty and say nothing about a disk. */
const PSEUDO_FILESYSTEMS = 'tmpfs|ramfs|devtmpfs|overlay|squashfs|iso9660|erofs|nsfs|fuse.*|autofs';
/** Devices that carry the same packets as the physical one, or none that leave the host. */
const VIRTUAL_DEVICES = 'lo|veth.*|docker.*|br-.*|virbr.*|cni.*|flannel.*|cali.*|ifb.*|dummy.*|tun.*|tap.*';

export const REAL_FILESYSTEM = { label: 'fstype', op: '!~', value: PSEUDO_FILESYSTEMS } as const;
export const PHYSICAL_DEVICE = { label: 'device', op: '!~', value: VIRTUAL_DEVICES } as const;

/** Every host has this one; it tells who is there. */
export const PRESENCE_METRIC = 'node_load1';

const BY = 'by (instance, job)';

/**
 * One expression for hosts of different collection intervals: the rate over the shortest window that has
 * data wins, host by host.
 */
function rated(of: (window: string) => string, intervalsMs: readonly number[]): string {
  const windows = [...new Set(intervalsMs.map(rateWindow))].sort((a, b) => a - b);
  return windows.map((ms) => of(formatDuration(ms))).join(' or ');
}

export type Vital = 'cpu' | 'memory' | 'disk' | 'networkIn' | 'networkOut' | 'load1' | 'seen';

/** The expression of each vital, given the intervals at which the hosts at hand are collected. */
export function vitalQueries(intervalsMs: readonly number[]): Record<Vital, string> {
  const network = (metric: string) =>
    rated((w) => `sum ${BY} (rate(${metric}{device!~"${VIRTUAL_DEVICES}"}[${w}])) * 8`, intervalsMs);
  // Like df: of what users may fill, without the blocks kept back for root.
  const used = `(node_filesystem_size_bytes{fstype!~"${PSEUDO_FILESYSTEMS}"} - node_filesystem_free_bytes)`;
  return {
    cpu: rated((w) => `100 - 100 * avg ${BY} (rate(node_cpu_seconds_total{mode="idle"}[${w}]))`, intervalsMs),
    memory: `100 - 100 * max ${BY} (node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)`,
    disk: `100 * max by (instance, job, mountpoint) (${used} / (${used} + node_filesystem_avail_bytes > 0))`,
    networkIn: network('node_network_receive_bytes_total'),
    networkOut: network('node_network_transmit_bytes_total'),
    load1: `max ${BY} (node_load1)`,
    seen: `max ${BY} (timestamp(${PRESENCE_METRIC}))`,
  };
}

/** How often each vital is worth evaluating, in milliseconds. */
export const VITAL_INTERVALS: Record<Vital, number> = {
  cpu: 1000,
  memory: 1000,
  disk: 10_000,
  networkIn: 1000,
  networkOut: 1000,
  load1: 1000,
  seen: 1000,
};

export const FACT_QUERIES = {
  uname: 'node_uname_info',
  os: 'node_os_info',
  boot: `max ${BY} (node_boot_time_seconds)`,
  cores: `count ${BY} (node_cpu_seconds_total{mode="idle"})`,
  memoryTotal: `max ${BY} (node_memory_MemTotal_bytes)`,
} as const;
export type Fact = keyof typeof FACT_QUERIES;
