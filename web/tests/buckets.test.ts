import { describe, expect, test } from 'vitest';
import { classicDistribution, distributionsAt, distributionsOver, heatOf, nativeDistribution } from '../src/lib/explore/buckets';

describe('distributions', () => {
  test('of a native histogram', () => {
    const wire = { count: '5', sum: '18.4', buckets: [[0, '0.25', '0.5', '2'], [3, '-0.001', '0.001', '1'], [0, '1', '+Inf', '2']] };
    expect(nativeDistribution(wire)).toEqual({
      count: 5,
      sum: 18.4,
      buckets: [
        { low: 0.25, high: 0.5, count: 2 },
        { low: -0.001, high: 0.001, count: 1 },
        { low: 1, high: Infinity, count: 2 },
      ],
    });
    expect(nativeDistribution('5')).toBeNull();
  });

  test('of classic buckets, which are cumulative and may come in any order', () => {
    const cumulative = [{ le: Infinity, count: 10 }, { le: 0.1, count: 3 }, { le: 1, count: 7 }, { le: 0.5, count: 3 }];
    expect(classicDistribution(cumulative)).toEqual({
      count: 10,
      sum: NaN,
      buckets: [
        { low: 0, high: 0.1, count: 3 },
        { low: 0.5, high: 1, count: 4 },
        { low: 1, high: Infinity, count: 3 },
      ],
    });
  });

  test('rates of buckets that fall back count as nothing', () => {
    const { buckets } = classicDistribution([{ le: 1, count: 5 }, { le: 2, count: 4.9 }, { le: Infinity, count: 6 }]);
    expect(buckets.map(({ count }) => count)).toEqual([5, 1]);
  });

  test('are found by what their series share', () => {
    const found = distributionsAt([
      { metric: { job: 'a', le: '1' }, value: [1, '2'] },
      { metric: { job: 'a', le: '+Inf' }, value: [1, '3'] },
      { metric: { job: 'b', le: '1' }, value: [1, '2'] },
      { metric: { job: 'c' }, value: [1, '2'] },
      { metric: { job: 'd' }, histogram: [1, { count: '1', sum: '2', buckets: [[0, '1', '2', '1']] }] },
    ]);
    // One bucket alone is no distribution.
    expect(found.map(({ name }) => name)).toEqual(['{job="d"}', '{job="a"}']);
  });
});

describe('heat', () => {
  test('adds up by time and row', () => {
    const series = (values: [number, string][], le: string) => ({ metric: { le }, values });
    const heat = heatOf(
      distributionsOver([
        series([[1, '2'], [2, '0']], '1'),
        series([[1, '3'], [2, '4']], '2'),
        series([[1, '3'], [2, '4']], '+Inf'),
      ]),
    );
    expect(heat.times).toEqual([1000, 2000]);
    expect(heat.bounds).toEqual([0, 1, 2]);
    expect([...heat.cells]).toEqual([2, 1, 0, 4]);
    expect(heat.most).toBe(4);
  });

  test('a coarse bucket spreads over the rows that it covers', () => {
    const point = (buckets: unknown[]) => ({ metric: {}, histograms: [[1, { count: '4', sum: '1', buckets }]] });
    const heat = heatOf(distributionsOver([point([[0, '1', '4', '4']]), point([[0, '1', '2', '1'], [0, '2', '4', '3']])]));
    expect(heat.bounds).toEqual([1, 2, 4]);
    expect([...heat.cells]).toEqual([3, 5]);
  });

  test('rows stay few', () => {
    const buckets = Array.from({ length: 500 }, (_, i) => [0, String(i), String(i + 1), '1']);
    const heat = heatOf(distributionsOver([{ metric: {}, histograms: [[1, { count: '500', sum: '1', buckets }]] }]));
    expect(heat.bounds.length).toBeLessThanOrEqual(98);
    expect(heat.cells.reduce((sum, cell) => sum + cell, 0)).toBe(500);
  });
});
