/** Rows of the host's tables, put together from the newest values of several metrics. */

import type { Labels } from '../api/client';
import type { Latest } from './latest';
import { REAL_FILESYSTEM } from './vitals';

export interface FilesystemRow {
  key: string;
  mount: string;
  device: string;
  type: string;
  size: number;
  used: number;
  available: number;
  /** Percent of what users may fill, like df. */
  share: number | null;
  /** Percent of inodes used; null where the filesystem has none to count. */
  inodes: number | null;
  readOnly: boolean;
}

const pseudo = new RegExp(`^(?:${REAL_FILESYSTEM.value})$`);
const OWN = ['device', 'mountpoint'] as const;
const identity = (labels: Labels) => `${labels.device ?? ''}\u0000${labels.mountpoint ?? ''}`;

function byIdentity(latest: Latest, metric: string): Map<string, number> {
  return new Map(latest.of(metric, OWN).map(({ labels, value }) => [identity(labels), value]));
}

/** Filesystems with a disk behind them, fullest first. */
export function filesystems(latest: Latest): FilesystemRow[] {
  const available = byIdentity(latest, 'node_filesystem_avail_bytes');
  const free = byIdentity(latest, 'node_filesystem_free_bytes');
  const files = byIdentity(latest, 'node_filesystem_files');
  const filesFree = byIdentity(latest, 'node_filesystem_files_free');
  const readOnly = byIdentity(latest, 'node_filesystem_readonly');
  return latest
    .of('node_filesystem_size_bytes', OWN)
    .filter(({ labels, value }) => value > 0 && !pseudo.test(labels.fstype ?? ''))
    .map(({ labels, value: size }) => {
      const key = identity(labels);
      const usable = available.get(key) ?? 0;
      const used = size - (free.get(key) ?? usable);
      const inodes = files.get(key) ?? 0;
      return {
        key,
        mount: labels.mountpoint ?? '',
        device: labels.device ?? '',
        type: labels.fstype ?? '',
        size,
        used,
        available: usable,
        share: used + usable > 0 ? (100 * used) / (used + usable) : null,
        inodes: inodes > 0 ? 100 - (100 * (filesFree.get(key) ?? inodes)) / inodes : null,
        readOnly: readOnly.get(key) === 1,
      };
    })
    .sort((a, b) => (b.share ?? 0) - (a.share ?? 0) || a.mount.localeCompare(b.mount));
}

const PROCESS = ['pid', 'name'] as const;

export interface ProcessRow {
  key: string;
  pid: string;
  name: string;
  /** Cores in use; null when the process is only listed for its memory. */
  cpu: number | null;
  memory: number | null;
}

export type ProcessOrder = 'cpu' | 'memory';

/** The processes the agent reports as its largest, in the order asked for. */
export function processes(latest: Latest, order: ProcessOrder): ProcessRow[] {
  const rows = new Map<string, ProcessRow>();
  const row = ({ pid = '', name = '' }: Labels): ProcessRow => {
    const key = `${pid}\u0000${name}`;
    let found = rows.get(key);
    if (!found) rows.set(key, (found = { key, pid, name, cpu: null, memory: null }));
    return found;
  };
  for (const { labels, value } of latest.of('node_top_process_cpu_ratio', PROCESS)) row(labels).cpu = value;
  for (const { labels, value } of latest.of('node_top_process_resident_bytes', PROCESS)) row(labels).memory = value;
  const other: ProcessOrder = order === 'cpu' ? 'memory' : 'cpu';
  return [...rows.values()].sort(
    (a, b) => (b[order] ?? -1) - (a[order] ?? -1) || (b[other] ?? -1) - (a[other] ?? -1) || Number(a.pid) - Number(b.pid),
  );
}
