import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { heatColour } from '../src/lib/chart/colour';
import { blocksOf } from '../src/lib/hosts/blocks';
import { METRICS } from '../src/lib/hosts/columns';
import { compileFilter, filterText, parseFilter, withMatcher } from '../src/lib/hosts/filter';
import { groupBy, groupingLabels } from '../src/lib/hosts/groups';
import { roundUp, scaleOf, shareOf } from '../src/lib/hosts/scale';
import { sortHosts } from '../src/lib/hosts/sort';
import { hostsParams, parseHostsView, savedParams } from '../src/lib/hosts/view';
import type { HostVitals } from '../src/lib/metrics/fleet.svelte';
import { vitalIntervals } from '../src/lib/metrics/vitals';
import { rowWindow } from '../src/lib/row-window';

function host(instance: string, more: Partial<HostVitals> = {}): HostVitals {
  const labels = { instance, job: 'node', ...more.labels };
  return {
    id: instance, instance, job: 'node', os: '', kernel: '', bootSeconds: null, cores: null, memoryTotal: null,
    cpu: null, memory: null, swap: null, disk: null, fullestMount: '', diskIo: null, networkIn: null, networkOut: null,
    load1: null, seenMs: null, intervalMs: 1000, status: 'live', ...more, labels,
  };
}

describe('filter', () => {
  const hosts = [
    host('web-1', { labels: { zone: 'eu-1', team: 'shop' } }),
    host('web-10', { labels: { zone: 'eu-2', team: 'Shop floor' } }),
    host('db-1', { labels: { zone: 'us-1', job: 'mysql' } }),
    host('db-2', { labels: { zone: 'us-1', note: 'say "hi"' } }),
  ];
  const found = (text: string) => hosts.filter(compileFilter(parseFilter(text))).map(({ instance }) => instance);

  test.each([
    ['', ['web-1', 'web-10', 'db-1', 'db-2']],
    ['web', ['web-1', 'web-10']],
    ['WEB-10', ['web-10']],
    ['job="node"', ['web-1', 'web-10', 'db-2']],
    ["job='node'", ['web-1', 'web-10', 'db-2']],
    ['job=node', ['web-1', 'web-10', 'db-2']],
    ['job != "node"', ['db-1']],
    ['zone=~"eu-.*"', ['web-1', 'web-10']],
    ['zone=~"eu"', []],
    ['zone!~"eu-1|us-1"', ['web-10']],
    ['{zone="us-1",job=~"my.+"}', ['db-1']],
    ['zone=~"us.*" 2', ['db-2']],
    ['team=""', ['db-1', 'db-2']],
    ['team!=""', ['web-1', 'web-10']],
    ['"shop floor"', ['web-10']],
    ['team=~"(?i)shop.*"', ['web-1', 'web-10']],
    ['instance=~`web-\\d`', ['web-1']],
    ['instance=~"web-\\\\d+"', ['web-1', 'web-10']],
    ['note="say \\"hi\\""', ['db-2']],
  ])('%s', (text, expected) => {
    expect(parseFilter(text).fault).toBeNull();
    expect(found(text)).toEqual(expected);
  });

  test('what cannot be understood is told, and the rest still holds', () => {
    expect(parseFilter('zone=~"eu-(" web').fault).toEqual({ kind: 'regex', text: 'eu-(' });
    expect(found('zone=~"eu-(" web')).toEqual(['web-1', 'web-10']);
    expect(parseFilter('zone="eu-1').fault).toEqual({ kind: 'quote', text: 'eu-1' });
    expect(found('zone="eu-1')).toEqual(['web-1']);
    expect(parseFilter('zone= web').fault).toEqual(null);
    expect(parseFilter('zone=').fault).toEqual({ kind: 'value', text: 'zone' });
  });

  test('a matcher is added by a click, in place of the one it contradicts', () => {
    expect(withMatcher('web zone="eu-1" zone!="x"', 'zone', 'us "1"')).toBe('zone!="x" zone="us \\"1\\"" web');
    const text = 'a=~"b\\\\.c" "two words" x';
    expect(filterText(parseFilter(text))).toBe(text);
    expect(parseFilter(filterText(parseFilter(text)))).toEqual(parseFilter(text));
  });
});

describe('sort', () => {
  const hosts = [
    host('h10', { cpu: 5, os: 'Debian 12' }),
    host('h2', { cpu: null, os: '' }),
    host('h1', { cpu: 90, os: 'Alpine' }),
    host('h3', { cpu: 5, os: 'Debian 9', labels: { zone: 'b' } }),
  ];
  const order = (by: string, reversed = false) => sortHosts(hosts, by, reversed, 'en').map(({ instance }) => instance);

  test('names count their numbers', () => {
    expect(order('name')).toEqual(['h1', 'h2', 'h3', 'h10']);
    expect(order('name', true)).toEqual(['h10', 'h3', 'h2', 'h1']);
    expect(order('no such column')).toEqual(['h1', 'h2', 'h3', 'h10']);
  });
  test('amounts fall, equal ones by name, none last either way', () => {
    expect(order('cpu')).toEqual(['h1', 'h3', 'h10', 'h2']);
    expect(order('cpu', true)).toEqual(['h3', 'h10', 'h1', 'h2']);
  });
  test('texts and labels rise', () => {
    expect(order('os')).toEqual(['h1', 'h3', 'h10', 'h2']);
    expect(order('label:zone')).toEqual(['h3', 'h1', 'h2', 'h10']);
  });
});

describe('rows in sight', () => {
  test('are bounded, whatever the length', () => {
    expect(rowWindow(0, 600, 30, 5000, 8)).toEqual({ first: 0, last: 28 });
    expect(rowWindow(30_000, 600, 30, 5000, 8)).toEqual({ first: 992, last: 1028 });
    expect(rowWindow(150_000, 600, 30, 5000, 8)).toEqual({ first: 4971, last: 5000 });
  });
  test('are the last ones when the table became shorter than it was scrolled', () => {
    expect(rowWindow(30_000, 600, 30, 10, 8)).toEqual({ first: 0, last: 10 });
    const { first, last } = rowWindow(30_000, 600, 30, 100, 8);
    expect([first <= 79, last]).toEqual([true, 100]);
  });
  test('are none of none', () => {
    expect(rowWindow(0, 600, 30, 0, 8)).toEqual({ first: 0, last: 0 });
  });
});

describe('address', () => {
  test('holds the whole view and gives it back', () => {
    const text = 'view=map&q=job%3D%22node%22&status=late&sort=disk&order=reverse&cols=cpu%2Clabel%3Azone&metric=memory&group=zone&saved=mine';
    const view = parseHostsView(new URLSearchParams(text));
    expect(view).toEqual({
      shape: 'map', filter: 'job="node"', status: 'late', sort: 'disk', reversed: true,
      columns: ['name', 'cpu', 'label:zone'], metric: 'memory', group: 'zone', saved: 'mine',
    });
    expect(hostsParams(view).toString()).toBe(text);
    expect(savedParams(view)).toBe(text.replace('&saved=mine', ''));
  });
  test('is empty by default, and forgives', () => {
    expect(hostsParams(parseHostsView(new URLSearchParams())).toString()).toBe('');
    const view = parseHostsView(new URLSearchParams('view=x&status=y&sort=z&metric=q&cols=,,label:1x,cpu,cpu'));
    expect([view.shape, view.status, view.sort, view.metric, view.columns]).toEqual([null, null, 'name', 'cpu', ['name', 'cpu']]);
    expect(parseHostsView(new URLSearchParams('sort=network')).sort).toBe('in');
    expect(parseHostsView(new URLSearchParams('cols=')).columns).toEqual(['name']);
  });
});

describe('heat map', () => {
  test('shares have a fixed scale, rates a round one that forgives outliers', () => {
    expect(scaleOf(METRICS.cpu, [1, 2])).toEqual({ top: 100, isOpen: false });
    const rates = [...Array.from({ length: 99 }, (_, i) => i * 1e7), 1e12];
    expect(scaleOf(METRICS.in, rates)).toEqual({ top: 1e9, isOpen: true });
    expect(scaleOf(METRICS.in, [null])).toEqual({ top: 1e6, isOpen: true });
    expect([0.011, 1, 1.2, 3, 7, 99].map(roundUp)).toEqual([0.02, 1, 2, 5, 10, 100]);
  });
  test('places lie between nothing and all', () => {
    const scale = { top: 50, isOpen: true };
    expect([0, 25, 80, -1, null, NaN].map((value) => shareOf(scale, value))).toEqual([0, 0.5, 1, 0, null, null]);
  });
  test('load is per core', () => {
    expect(METRICS.load.of(host('a', { load1: 6, cores: 4 }))).toBe(1.5);
    expect(METRICS.load.of(host('a', { load1: 6 }))).toBeNull();
  });

  /** Relative luminance as WCAG has it. */
  function luminance(rgb: readonly number[]): number {
    const [r, g, b] = rgb.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    }) as [number, number, number];
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }
  const css = readFileSync(new URL('../src/styles/base.css', import.meta.url), 'utf8');
  const stopsOf = (block: string) => [0, 1, 2, 3].map((i) => new RegExp(`--heat-${i}: (#[0-9a-f]{6})`).exec(block)?.[1] as string);
  const [light, dark] = css.split(":root[data-theme='dark']") as [string, string];

  test.each([['light', light], ['dark', dark]])('colours differ in lightness alone already, %s', (_, block) => {
    const steps = Array.from({ length: 11 }, (_, i) => {
      const rgb = heatColour(stopsOf(block), i / 10).match(/\d+/g)?.map(Number) as number[];
      return Math.cbrt(luminance(rgb));
    });
    const differences = steps.slice(1).map((step, i) => step - (steps[i] as number));
    const sign = Math.sign(differences[0] as number);
    // Whoever sees no hue, or confuses red and green, still sees the order, and each tenth as a step.
    for (const difference of differences) expect(difference * sign).toBeGreaterThan(0.02);
  });
});

test('groups are sorted, hosts without the label last', () => {
  const hosts = [host('a', { labels: { z: 'r10' } }), host('b', { labels: { z: 'r9' } }), host('c'), host('d', { labels: { z: 'r10' } })];
  expect(groupBy(hosts, 'z', 'en').map(({ value, hosts: members }) => [value, members.length])).toEqual([['r9', 1], ['r10', 2], ['', 1]]);
  expect(groupBy(hosts, '', 'en').map(({ hosts: members }) => members.length)).toEqual([4]);
  expect(groupingLabels(hosts)).toEqual(['job', 'z']);
});

test('the more hosts, the less often each is asked for, and never faster than they send', () => {
  expect(vitalIntervals(1, [1000])).toMatchObject({ cpu: 1000, seen: 1000, disk: 10_000 });
  expect(vitalIntervals(500, [1000])).toMatchObject({ cpu: 5000, disk: 30_000 });
  expect(vitalIntervals(5, [15_000, 60_000])).toMatchObject({ cpu: 5000 });
  expect(vitalIntervals(5000, [1000])).toMatchObject({ cpu: 10_000 });
});

test('tiles are cut into blocks of whole rows, and none is lost', () => {
  for (const count of [0, 1, 7, 63, 64, 65, 5000]) {
    for (const columns of [0, 1, 4.9, 80]) {
      const tiles = Array.from({ length: count }, (_, n) => n);
      const blocks = blocksOf(tiles, columns, 16);
      expect(blocks.flatMap((block) => [...block.tiles])).toEqual(tiles);
      const across = Math.max(1, Math.floor(columns));
      expect(blocks.slice(0, -1).every((block) => block.tiles.length === across * 16)).toBe(true);
      const rows = blocks.reduce((sum, block) => sum + block.rows, 0);
      expect(rows).toBe(Math.ceil(count / across));
      expect(blocks.map((block) => block.first)).toEqual(blocks.map((_, n) => n * across * 16));
    }
  }
});
