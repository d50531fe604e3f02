import { describe, expect, test } from 'vitest';
import { HEADROOM, ROW_BYTES, SAMPLE_BYTES, SERIES_DAY_BYTES, parseDownsampling, parseTiers, size } from '../src/lib/sizing';

const tiers = [{ seconds: 300, days: 365 }];
const load = { series: 10_000, interval: 15, days: 15, tiers };

describe('sizing', () => {
  test('is the formula of the documentation', () => {
    const { samples, rollups, total } = size(load);
    expect(samples).toBeCloseTo(15 * (10_000 * 5_760 * SAMPLE_BYTES + 10_000 * SERIES_DAY_BYTES) * HEADROOM);
    expect(rollups).toBe(365 * 10_000 * 288 * ROW_BYTES);
    expect(total).toBe(samples + rollups);
  });

  test('counts each tier for its own time', () => {
    const both = [{ seconds: 300, days: 90 }, { seconds: 3600, days: 1825 }];
    const { rollups } = size({ ...load, tiers: both });
    expect(rollups).toBe(10_000 * ROW_BYTES * (90 * 288 + (1825 - 90) * 24));
  });

  test('grows with what there is', () => {
    expect(size({ ...load, interval: 1 }).samples).toBeGreaterThan(14 * size(load).samples);
    expect(size({ ...load, days: 30 }).samples).toBeCloseTo(2 * size(load).samples);
    expect(size({ ...load, series: 0 }).total).toBe(0);
  });

  test('downsamples what is denser', () => {
    const downsampling = { seconds: 15, after: 1 };
    const each = { ...load, interval: 1 };
    const two = 2 * size({ ...each, days: 1 }).samples;
    expect(size({ ...each, downsampling }).samples).toBeCloseTo(two + 13 * size({ ...load, days: 1 }).samples);
    expect(size({ ...load, downsampling }).samples).toBe(size(load).samples);
    expect(size({ ...each, days: 1, downsampling }).samples).toBe(size({ ...each, days: 1 }).samples);
    expect(parseDownsampling('15s 1d')).toEqual(downsampling);
    expect(parseDownsampling('0')).toBe(null);
    for (const wrong of ['15s', '15s 1d, 1m 7d', 'x 1d']) expect(parseDownsampling(wrong)).toBe(undefined);
  });

  test('has no rollups where samples stay for longer', () => {
    expect(size({ ...load, tiers: [] }).rollups).toBe(0);
    expect(size({ ...load, tiers: [{ seconds: 300, days: 15 }] }).rollups).toBe(0);
  });

  test('reads tiers as people write them', () => {
    expect(parseTiers('5m 365d')).toEqual(tiers);
    expect(parseTiers(' 5m:90d,1h 5y ')).toEqual([{ seconds: 300, days: 90 }, { seconds: 3600, days: 1825 }]);
    expect(parseTiers('0')).toEqual([]);
    expect(parseTiers('')).toEqual([]);
    for (const wrong of ['5m', '5m 1', 'x 90d', '5m 90d,', '5m 90d 1h']) expect(parseTiers(wrong)).toBeNull();
  });
});
