import { afterEach, describe, expect, test, vi } from 'vitest';
import { dateTime, roundTimes } from '../src/lib/format/time';
import { clampSpan, formatDuration, HOUR, MINUTE, parseDuration, parseLocalTime, parseRange, rangeParams, shift, stepFor, zoomIn, zoomOut, type Range } from '../src/lib/time/range';
import { zone } from '../src/lib/time/zone.svelte';

// A zone whose hours are none of UTC's.
vi.stubEnv('TZ', 'Asia/Kathmandu');

const NOW = 1_795_225_000_000;
const relative = (span: number): Range => ({ kind: 'relative', span });

describe('durations', () => {
  test.each([
    ['90s', 90_000],
    ['1h30m', 5_400_000],
    ['500ms', 500],
    ['2d', 172_800_000],
    ['1w', 604_800_000],
    ['', null],
    ['5', null],
    ['-5m', null],
    ['5m 3s', null],
    ['0s', null],
    ['99999999999999999999y', null],
  ])('parse %j', (text, wanted) => {
    expect(parseDuration(text)).toBe(wanted);
  });

  test('are read back as they were written', () => {
    for (const ms of [1, 999, 1000, 61_000, 3_600_000, 90_061_001, 604_800_000]) {
      expect(parseDuration(formatDuration(ms))).toBe(ms);
    }
  });
});

describe('ranges in the address', () => {
  test.each<[string, Range]>([
    ['', relative(HOUR)],
    ['range=5m', relative(5 * MINUTE)],
    ['range=nonsense', relative(HOUR)],
    ['range=1ms', relative(5000)],
    ['from=1000&to=61000', { kind: 'absolute', from: 1000, to: 61000 }],
    ['from=61000&to=1000', relative(HOUR)],
    ['from=x&to=1000&range=1m', relative(MINUTE)],
  ])('%s', (text, wanted) => {
    expect(parseRange(new URLSearchParams(text), HOUR)).toEqual(wanted);
  });

  test('come back from their parameters', () => {
    for (const range of [relative(15 * MINUTE), { kind: 'absolute', from: 5, to: 70_005 } as Range]) {
      const params = new URLSearchParams();
      for (const [name, value] of Object.entries(rangeParams(range))) if (value !== null) params.set(name, value);
      expect(parseRange(params, HOUR)).toEqual(range);
    }
  });
});

describe('moving', () => {
  test('zooming out of an absolute range never passes now', () => {
    const out = zoomOut({ kind: 'absolute', from: NOW - 60_000, to: NOW }, NOW);
    expect(out).toEqual({ kind: 'absolute', from: NOW - 120_000, to: NOW });
  });

  test('zooming in halves around the middle', () => {
    expect(zoomIn({ kind: 'absolute', from: 0, to: 80_000 })).toEqual({ kind: 'absolute', from: 20_000, to: 60_000 });
    expect(zoomIn(relative(10 * MINUTE))).toEqual(relative(5 * MINUTE));
  });

  test('shifting back leaves live, shifting up to now returns to it', () => {
    const back = shift(relative(MINUTE), -0.5, NOW);
    expect(back).toEqual({ kind: 'absolute', from: NOW - 90_000, to: NOW - 30_000 });
    expect(shift(back, 0.5, NOW)).toEqual(relative(MINUTE));
  });

  test('spans have limits', () => {
    expect(clampSpan(1)).toBe(5000);
    expect(clampSpan(1e18)).toBeLessThan(1e15);
  });
});

test.each([
  [5 * MINUTE, 900, 1000, 1000],
  [HOUR, 900, 1000, 5000],
  [5 * MINUTE, 900, 15_000, 15_000],
  [24 * HOUR, 900, 1000, 120_000],
  [24 * 400 * HOUR, 900, 1000, 43_200_000],
])('stepFor(%d, %d, %d)', (span, points, finest, wanted) => {
  expect(stepFor(span, points, finest)).toBe(wanted);
});

test.each([
  ['2026-11-21 02:03:04', new Date(2026, 10, 21, 2, 3, 4).getTime()],
  ['2026-11-21T02:03', new Date(2026, 10, 21, 2, 3).getTime()],
  ['2026-11-21', new Date(2026, 10, 21).getTime()],
  ['2026-02-31 00:00', null],
  ['2026-11-21 25:00', null],
  ['yesterday', null],
])('local time %j', (text, wanted) => {
  expect(parseLocalTime(text)).toBe(wanted);
});

describe('zones', () => {
  afterEach(() => zone.choose('local'));

  test('times are shown and read in the zone that was chosen', () => {
    const at = Date.UTC(2026, 0, 31, 23, 30, 5);
    zone.choose('UTC');
    expect(dateTime(at)).toBe('2026-01-31 23:30:05');
    expect(parseLocalTime('2026-01-31 23:30:05')).toBe(at);
    expect(parseLocalTime('2026-02-31 00:00')).toBeNull();
    expect(roundTimes(at, at + 3_600_000, 3).times[0]).toBe(Date.UTC(2026, 1, 1));
    zone.choose('local');
    expect(dateTime(at)).toBe('2026-02-01 05:15:05');
    expect(parseLocalTime('2026-02-01 05:15:05')).toBe(at);
    expect(roundTimes(at, at + 3_600_000, 3).times[0]).toBe(Date.UTC(2026, 0, 31, 23, 45));
  });
});
