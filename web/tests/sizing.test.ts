import { describe, expect, test } from 'vitest';
import { HEADROOM, ROLLUP_DAY_BYTES, SAMPLE_BYTES, SERIES_DAY_BYTES, size } from '../src/lib/sizing';

const load = { series: 10_000, interval: 15, days: 15, rollupDays: 365 };

describe('sizing', () => {
  test('is the formula of the documentation', () => {
    const { samples, rollups, total } = size(load);
    expect(samples).toBeCloseTo(15 * (10_000 * 5_760 * SAMPLE_BYTES + 10_000 * SERIES_DAY_BYTES) * HEADROOM);
    expect(rollups).toBe(365 * 10_000 * ROLLUP_DAY_BYTES);
    expect(total).toBe(samples + rollups);
  });

  test('grows with what there is', () => {
    expect(size({ ...load, interval: 1 }).samples).toBeGreaterThan(14 * size(load).samples);
    expect(size({ ...load, days: 30 }).samples).toBeCloseTo(2 * size(load).samples);
    expect(size({ ...load, series: 0 }).total).toBe(0);
  });

  test('has no rollups where samples stay for longer', () => {
    expect(size({ ...load, rollupDays: 0 }).rollups).toBe(0);
    expect(size({ ...load, rollupDays: 15 }).rollups).toBe(0);
  });
});
