import { describe, expect, test } from 'vitest';
import { duration, roundTimes, timeTicks } from '../src/lib/format/time';
import { exact, format, formatTicks, tickIncrements, type Unit } from '../src/lib/format/units';

describe('format', () => {
  test.each<[number | null | undefined, Unit, string]>([
    [0, 'bytes', '0 B'],
    [1023, 'bytes', '1023 B'],
    [1024, 'bytes', '1 KiB'],
    [1536, 'bytes', '1.5 KiB'],
    [13.2 * 1024 ** 3, 'bytes', '13.2 GiB'],
    [999_700, 'bitsPerSecond', '1 Mb/s'],
    [7_034_000, 'bitsPerSecond', '7.03 Mb/s'],
    [2.5 * 1024 ** 2, 'bytesPerSecond', '2.5 MiB/s'],
    [98.46, 'percent', '98.5 %'],
    [100, 'percent', '100 %'],
    [0.0004, 'seconds', '400 µs'],
    [0.25, 'seconds', '250 ms'],
    [90, 'seconds', '1.5 min'],
    [0, 'seconds', '0 s'],
    [1.25, 'cores', '1.25'],
    [237, 'operationsPerSecond', '237 /s'],
    [1920, 'operationsPerSecond', '1.92 k/s'],
    [-1536, 'bytes', '−1.5 KiB'],
    [NaN, 'bytes', 'NaN'],
    [Infinity, 'percent', '+Inf'],
    [-Infinity, 'number', '−Inf'],
    [null, 'bytes', '–'],
    [undefined, 'percent', '–'],
    [999e18, 'number', '999 E'],
    [1e21, 'number', '1e+21'],
    [2.39e302, 'number', '2.39e+302'],
    [-2.39e302, 'operationsPerSecond', '−2.39e+302 /s'],
    [2 ** 70, 'bytes', '1.18e+21 B'],
    [1.5e300, 'percent', '1.5e+300 %'],
    [1e300, 'seconds', '1e+300 s'],
    [1e300, 'cores', '1e+300'],
    [-2e-300, 'number', '−2e−300'],
  ])('%d as %s', (value, unit, wanted) => {
    expect(format(value, unit)).toBe(wanted);
  });

  test.each(['bytes', 'bitsPerSecond', 'number'] as const)('%s never shows four digits before a larger prefix', (unit) => {
    const base = unit === 'bytes' ? 1024 : 1000;
    for (let value = 1; value < 1e15; value *= 1.07) {
      const [number] = format(value, unit).split(' ');
      expect(Math.abs(parseFloat(number as string))).toBeLessThan(base);
    }
  });
});

describe('formatTicks', () => {
  test.each<[number[], Unit, string[]]>([
    [[0, 25, 50, 75, 100], 'percent', ['0%', '25%', '50%', '75%', '100%']],
    [[0, 8 * 1024 ** 3, 16 * 1024 ** 3], 'bytes', ['0', '8 GiB', '16 GiB']],
    [[0, 0.5, 1, 1.5], 'number', ['0', '0.5', '1.0', '1.5']],
    [[0, 0.0005, 0.001], 'seconds', ['0', '0.5 ms', '1.0 ms']],
    [[0, 0.25, 0.5], 'number', ['0', '0.25', '0.50']],
    [[0, 2.5, 5], 'percent', ['0%', '2.5%', '5.0%']],
    [[0, 250_000, 500_000], 'bitsPerSecond', ['0', '250 kb/s', '500 kb/s']],
    [[0, 5e301, 1e302, 1.5e302], 'number', ['0', '0.5e302', '1.0e302', '1.5e302']],
    [[-1e308, 0, 1e308], 'number', ['−1e308', '0', '1e308']],
    [[0, 1e24, 2e24], 'bytes', ['0', '1e24 B', '2e24 B']],
    [[0, 5e-13, 1e-12], 'number', ['0', '0.5e−12', '1.0e−12']],
    [[0, 1e-310, 2e-310], 'seconds', ['0', '1e−310 s', '2e−310 s']],
  ])('%j as %s', (ticks, unit, wanted) => {
    expect(formatTicks(ticks, unit)).toEqual(wanted);
  });

  test('tells all ticks of an axis apart', () => {
    for (const gap of [0.001, 0.02, 0.25, 1, 2.5, 50, 2000]) {
      const texts = formatTicks([0, 1, 2, 3, 4].map((i) => i * gap), 'number');
      expect(new Set(texts).size).toBe(5);
    }
  });

  test('binary units step by powers of two', () => {
    expect(tickIncrements('bytes')?.slice(0, 5)).toEqual([1, 2, 4, 8, 16]);
    expect(tickIncrements('percent')).toBeUndefined();
  });
});

test.each([
  [0, '0'],
  [0.1 + 0.2, '0.3'],
  [1795225155.17, '1795225155.17'],
  [1e-9, '1e−9'],
  [2 ** 70, '1.18059e+21'],
  [-2.39e302, '−2.39e+302'],
  [NaN, 'NaN'],
])('exact %d', (value, wanted) => {
  expect(exact(value)).toBe(wanted);
});

test.each([
  [0.25, '250ms'],
  [0, '0ms'],
  [59.9, '59s'],
  [60, '1m'],
  [3725, '1h 2m'],
  [86400 * 3 + 3600 * 4 + 59, '3d 4h'],
  [86400 + 59, '1d'],
  [-5, '−5s'],
  [NaN, '–'],
])('duration of %d s', (seconds, wanted) => {
  expect(duration(seconds)).toBe(wanted);
});

test('time ticks name the day where it turns', () => {
  const midnight = new Date(2026, 10, 21).getTime();
  expect(timeTicks([midnight - 3_600_000, midnight], 3_600_000)).toEqual(['23:00', '11-21 00:00']);
  expect(timeTicks([midnight, midnight + 15_000], 15_000)).toEqual(['00:00:00', '00:00:15']);
  expect(timeTicks([midnight, midnight + 500], 500)).toEqual(['00:00:00.000', '00:00:00.500']);
  expect(timeTicks([midnight], 86_400_000)).toEqual(['11-21']);
});

test.each([
  [Date.UTC(2026, 10, 28, 10, 0, 40), 15 * 60_000, 7, 5 * 60_000, 3],
  [Date.UTC(2026, 10, 28, 10, 0, 40), 12_000, 6, 2_000, 7],
  [Date.UTC(2026, 10, 28, 10, 0, 40), 40 * 86_400_000, 5, 10 * 86_400_000, 4],
])('round times from %s over %s ms', (from, span, most, gap, count) => {
  const found = roundTimes(from, from + span, most);
  expect(found.gap).toBe(gap);
  expect(found.times).toHaveLength(count);
  const offset = new Date(from).getTimezoneOffset() * 60_000;
  expect(found.times.every((at) => (at - offset) % gap === 0 && at >= from && at <= from + span)).toBe(true);
});
