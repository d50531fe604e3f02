import { describe, expect, test } from 'vitest';
import { Deriver, detectInterval, liveness, rateWindow } from '../src/lib/live/derive';
import { Fold, historyQuery, type Source } from '../src/lib/metrics/source';

type Step = [atMs: number, value: number | null, wanted: number | null | undefined];

function check(deriver: Deriver, steps: Step[]): void {
  for (const [at, value, wanted] of steps) {
    const got = deriver.push(at, value);
    expect(got === undefined ? undefined : got.value, `at ${at}`).toBe(wanted);
  }
}

describe('counters', () => {
  test('become rates per second', () => {
    check(new Deriver('counter', 1000, 5000), [
      [1000, 100, undefined],
      [2000, 103, 3],
      [4000, 107, 2],
    ]);
  });

  test('that fall were reset and count from zero', () => {
    check(new Deriver('counter', 1000, 5000), [
      [1000, 100, undefined],
      [2000, 4, 4],
      [3000, 6, 2],
    ]);
  });

  test('leave a hole behind a stale marker and need a sample to begin again', () => {
    check(new Deriver('counter', 1000, 5000), [
      [1000, 100, undefined],
      [2000, null, null],
      [3000, null, undefined],
      [4000, 500, undefined],
      [5000, 501, 1],
    ]);
  });

  test('invent no rate over an outage', () => {
    check(new Deriver('counter', 1000, 5000), [
      [1000, 100, undefined],
      [60_000, 900, null],
      [61_000, 905, 5],
    ]);
  });

  test('keep one point per step, jitter or not', () => {
    check(new Deriver('counter', 4000, 10_000), [
      [0, 0, undefined],
      [1000, 1, undefined],
      [2000, 2, undefined],
      [3000, 3, undefined],
      [3990, 8, 8 / 3.99],
      [8010, 12, 4 / 4.02],
    ]);
  });

  test('ignore what is old or NaN', () => {
    check(new Deriver('counter', 1000, 5000), [
      [2000, 10, undefined],
      [1000, 5, undefined],
      [2000, 11, undefined],
      [3000, NaN, null],
    ]);
  });

  test('agree with the sum of all gains, whatever the resets', () => {
    const deriver = new Deriver('counter', 1000, 5000);
    let value = 0;
    let gained = 0;
    let derived = 0;
    let seed = 7;
    const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
    deriver.push(0, 0);
    for (let t = 1; t <= 500; t++) {
      const reset = random() < 0.05;
      const gain = Math.floor(random() * 100);
      // A reset shows only when the counter has not caught up with where it was.
      if (reset && gain < value) value = gain;
      else value += gain;
      gained += gain;
      derived += deriver.push(t * 1000, value)?.value ?? 0;
    }
    expect(derived).toBeCloseTo(gained, 6);
  });
});

test('gauges pass, thinned to the step', () => {
  check(new Deriver('gauge', 2000, 5000), [
    [1000, 5, 5],
    [2000, 6, undefined],
    [3000, 7, 7],
    [4000, null, null],
    [5000, Infinity, Infinity],
  ]);
});

test.each([
  [[], null],
  [[1000], null],
  [[1000, 2003, 3001, 3999], 1000],
  [[0, 15_020, 29_990], 15_000],
  [[0, 1000, 2000, 60_000], 1000],
  [[0, 47_000], 47_000],
  [[0, 250, 500], 1000],
])('interval of %j', (stamps, wanted) => {
  expect(detectInterval(stamps)).toBe(wanted);
});

test('windows survive a lost sample', () => {
  expect(rateWindow(1000)).toBe(5000);
  expect(rateWindow(15_000)).toBe(60_000);
});

test.each([
  [500, 1000, 'live'],
  [4000, 1000, 'late'],
  [30_000, 15_000, 'live'],
  [40_000, 15_000, 'late'],
  [301_000, 60_000, 'gone'],
] as const)('age %d of a host every %d ms is %s', (age, interval, wanted) => {
  expect(liveness(age, interval)).toBe(wanted);
});

const CPU: Source = {
  id: 'mode',
  metric: 'node_cpu_seconds_total',
  kind: 'counter',
  by: 'mode',
  own: ['cpu', 'mode'],
  scale: 100,
  where: [{ label: 'mode', op: '!=', value: 'idle' }],
};

describe('fold', () => {
  const resolution = { intervalMs: 1000, stepMs: 1000 };
  const series = (cpu: string, mode: string) => ({ __name__: 'node_cpu_seconds_total', cpu, mode });

  test('combines the series of a line at one timestamp', () => {
    const fold = new Fold(CPU, resolution);
    expect(fold.add(0, series('0', 'user'))).toBe(true);
    expect(fold.add(1, series('1', 'user'))).toBe(true);
    expect(fold.add(2, series('0', 'idle'))).toBe(false);
    expect(fold.add(3, { __name__: 'node_load1' })).toBe(false);
    fold.push(0, 1000, 10);
    fold.push(1, 1000, 20);
    expect(fold.push(0, 2000, 10.2)?.value).toBeCloseTo(20);
    const both = fold.push(1, 2000, 20.6);
    expect(both?.key).toBe('mode:user');
    expect(both?.value).toBeCloseTo(80);
    expect(fold.push(9, 2000, 1)).toBeNull();
  });

  test('counts once what two Prometheus collect, and goes on with either', () => {
    const fold = new Fold({ id: 'load', metric: 'node_load1', kind: 'gauge', by: null, own: [] }, resolution);
    fold.add(0, { __name__: 'node_load1', replica: 'a' });
    fold.add(1, { __name__: 'node_load1', replica: 'b' });
    expect(fold.push(0, 1000, 2)).toEqual({ key: 'load', value: 2 });
    expect(fold.push(1, 1000, 4)).toEqual({ key: 'load', value: 3 });
    expect(fold.push(0, 2000, null)).toBeNull();
    expect(fold.push(1, 2000, 4)).toEqual({ key: 'load', value: 4 });
    expect(fold.push(1, 3000, null)).toEqual({ key: 'load', value: null });
  });

  test('matchers are anchored as in PromQL', () => {
    const fold = new Fold({ ...CPU, where: [{ label: 'device', op: '!~', value: 'lo|veth.*' }], by: 'device' }, resolution);
    const of = (device: string) => fold.add(1, { __name__: CPU.metric, device });
    expect([of('lo'), of('lo0'), of('veth12'), of('eth0')]).toEqual([false, true, false, true]);
  });
});

test.each([
  [1000, 1000, '(irate(node_cpu_seconds_total{instance="a\\"b",job="node",mode!="idle"}[5s]))) * 100'],
  [1000, 5000, '(rate(node_cpu_seconds_total{instance="a\\"b",job="node",mode!="idle"}[6s]))) * 100'],
  [15_000, 15_000, '(irate(node_cpu_seconds_total{instance="a\\"b",job="node",mode!="idle"}[1m]))) * 100'],
  [15_000, 120_000, '(rate(node_cpu_seconds_total{instance="a\\"b",job="node",mode!="idle"}[2m15s]))) * 100'],
])('history of a source every %d ms in steps of %d ms', (intervalMs, stepMs, wanted) => {
  expect(historyQuery(CPU, { instance: 'a"b', job: 'node' }, { intervalMs, stepMs })).toBe(`sum by (mode) (avg by (cpu, mode) ${wanted}`);
});

test('the history of a gauge ends soon after its last sample', () => {
  const load: Source = { id: 'load1', metric: 'node_load1', kind: 'gauge', by: null, own: [] };
  expect(historyQuery(load, { instance: 'a', job: 'node' }, { intervalMs: 15_000, stepMs: 15_000 })).toBe(
    'avg(last_over_time(node_load1{instance="a",job="node"}[52s500ms]))',
  );
});
