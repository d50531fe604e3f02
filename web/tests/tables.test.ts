import { describe, expect, test } from 'vitest';
import type { InstantSeries } from '../src/lib/api/client';
import { Latest } from '../src/lib/metrics/latest';
import { filesystems, processes } from '../src/lib/metrics/tables';
import { FACT_QUERIES, vitalQueries } from '../src/lib/metrics/vitals';

const sample = (name: string, labels: Record<string, string>, value: number, second = 1): InstantSeries => ({
  metric: { __name__: name, ...labels },
  value: [second, String(value)],
});

function disk(mountpoint: string, fstype: string, size: number, free: number, avail: number): InstantSeries[] {
  const labels = { device: `/dev${mountpoint}`, mountpoint, fstype };
  return [
    sample('node_filesystem_size_bytes', labels, size),
    sample('node_filesystem_free_bytes', labels, free),
    sample('node_filesystem_avail_bytes', labels, avail),
  ];
}

describe('filesystems', () => {
  test('count as df does, fullest first, without pseudo ones', () => {
    const latest = new Latest();
    latest.load([...disk('/', 'ext4', 100, 50, 30), ...disk('/run', 'tmpfs', 10, 0, 0), ...disk('/srv', 'xfs', 100, 10, 10), ...disk('/empty', 'ext4', 0, 0, 0)]);
    expect(filesystems(latest).map(({ mount, share, used }) => [mount, share, used])).toEqual([
      ['/srv', 90, 90],
      ['/', 62.5, 50],
    ]);
  });

  test('are listed once where two Prometheus send them, by the newer of both', () => {
    const latest = new Latest();
    const of = (replica: string, free: number, second: number) =>
      disk('/', 'ext4', 100, free, free).map(({ metric, value }) => ({ metric: { ...metric, replica }, value: [second, value?.[1] ?? ''] as [number, string] }));
    latest.load([...of('a', 40, 5), ...of('b', 50, 3)]);
    expect(filesystems(latest).map(({ mount, share }) => [mount, share])).toEqual([['/', 60]]);
  });

  test('without inodes there is no share of them', () => {
    const latest = new Latest();
    latest.load(disk('/', 'btrfs', 100, 50, 50));
    expect(filesystems(latest)[0]?.inodes).toBeNull();
  });
});

test('processes join their two lists and sort by either', () => {
  const latest = new Latest();
  const cpu = (pid: string, value: number) => sample('node_top_process_cpu_ratio', { pid, name: `p${pid}` }, value);
  const memory = (pid: string, value: number) => sample('node_top_process_resident_bytes', { pid, name: `p${pid}` }, value);
  latest.load([cpu('1', 0.5), cpu('2', 0.7), memory('2', 10), memory('3', 99)]);
  expect(processes(latest, 'cpu').map(({ pid }) => pid)).toEqual(['2', '1', '3']);
  expect(processes(latest, 'memory').map(({ pid }) => pid)).toEqual(['3', '2', '1']);
  expect(processes(latest, 'cpu')[1]).toMatchObject({ pid: '1', name: 'p1', cpu: 0.5, memory: null });
});

describe('latest values', () => {
  test('are renewed, ended by a stale marker, and dropped when nobody renews them', () => {
    const latest = new Latest();
    latest.load([sample('a', { x: '1' }, 1, 10)]);
    latest.add(0, { x: '1', __name__: 'a' });
    latest.add(1, { x: '2', __name__: 'a' });
    latest.push(0, 11_000, 5);
    latest.push(1, 11_000, 6);
    latest.push(9, 11_000, 7);
    expect(latest.of('a', ['x']).map(({ value }) => value)).toEqual([5, 6]);
    latest.push(1, 12_000, null);
    expect(latest.one('a')?.value).toBe(5);
    latest.expire(11_001);
    expect(latest.of('a', ['x'])).toEqual([]);
  });
});

test('what two Prometheus send of a host is counted once', () => {
  const queries = vitalQueries([1000]);
  expect(queries.networkIn).toContain('sum by (instance, job) (avg by (instance, job, device) (rate(');
  expect(queries.diskIo).not.toMatch(/sum by [^(]*\([^)]*\) \(rate/);
  expect(FACT_QUERIES.cores).toContain('group by (instance, job, cpu)');
});

test('hosts of several intervals share one expression, the shortest window first', () => {
  expect(vitalQueries([15_000, 1000, 1000]).cpu).toBe(
    '100 - 100 * avg by (instance, job) (rate(node_cpu_seconds_total{mode="idle"}[5s])) or ' +
      '100 - 100 * avg by (instance, job) (rate(node_cpu_seconds_total{mode="idle"}[1m]))',
  );
});
