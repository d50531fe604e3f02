import { describe, expect, test } from 'vitest';
import { drawnFactor, finite, lineColumns, mirror, spreadHoles, stack, valueAt } from '../src/lib/chart/data';
import { Frame, gridOf, lowerBound, type Cell } from '../src/lib/chart/frame';

const column = (frame: Frame, key: string): Cell[] => frame.columns.get(key) ?? [];

describe('frame', () => {
  test('aligns columns: no point is not a hole', () => {
    const frame = new Frame(5000);
    frame.set(1000, 'a', 1);
    frame.set(2000, 'b', 2);
    frame.set(2000, 'a', 3);
    expect(frame.times).toEqual([1000, 2000]);
    expect(column(frame, 'a')).toEqual([1, 3]);
    expect(column(frame, 'b')).toEqual([undefined, 2]);
  });

  test('breaks a line that was silent too long', () => {
    const frame = new Frame(3000);
    frame.set(1000, 'a', 1);
    frame.set(9000, 'a', 2);
    expect(frame.times).toEqual([1000, 1001, 9000]);
    expect(column(frame, 'a')).toEqual([1, null, 2]);
  });

  test('breaks one line only', () => {
    const frame = new Frame(3000);
    for (let t = 1000; t <= 9000; t += 1000) frame.set(t, 'b', t);
    frame.set(1000, 'a', 1);
    frame.set(9000, 'a', 2);
    expect(column(frame, 'a').filter((cell) => cell === null)).toHaveLength(1);
    expect(column(frame, 'b').every((cell) => typeof cell === 'number')).toBe(true);
  });

  test('inserts what comes late where it belongs', () => {
    const frame = new Frame(5000);
    frame.set(1000, 'a', 1);
    frame.set(3000, 'a', 3);
    frame.set(2000, 'a', 2);
    expect(frame.times).toEqual([1000, 2000, 3000]);
    expect(column(frame, 'a')).toEqual([1, 2, 3]);
  });

  test('what comes late into a silence is connected with nothing far, also before a reload', () => {
    const frame = new Frame(3000);
    frame.set(1000, 'a', 1);
    frame.set(60_000, 'a', 60);
    frame.set(30_000, 'b', 0);
    frame.set(30_000, 'a', 30);
    frame.set(31_000, 'a', 31);
    frame.set(20_000, 'a', 20);
    const line = column(frame, 'a').filter((cell) => cell !== undefined);
    expect(line).toEqual([1, null, 20, null, 30, null, 31, null, 60]);
  });

  test('keeps live rows that are newer than the history that arrives', () => {
    const frame = new Frame(5000);
    frame.set(9500, 'a', 95);
    frame.set(10_500, 'a', 105);
    frame.load({ fromMs: 7000, toMs: 10_000, stepMs: 1000 }, [{ key: 'a', values: [[7, '70'], [8, 'NaN'], [9, '90'], [10, '+Inf']] }]);
    expect(frame.times).toEqual([7000, 8000, 9000, 10_000, 10_500]);
    expect(column(frame, 'a')).toEqual([70, null, 90, Infinity, 105]);
  });

  test('an old picture goes when the new one comes', () => {
    const frame = new Frame(5000);
    frame.set(20_000, 'a', 1);
    frame.staleTail();
    frame.set(21_000, 'a', 2);
    frame.load({ fromMs: 0, toMs: 2000, stepMs: 1000 }, [{ key: 'a', values: [[0, '7']] }]);
    expect(frame.times).not.toContain(20_000);
    expect(frame.last('a')).toBe(2);
  });

  test('history that ends early is no hole yet', () => {
    const frame = new Frame(5000);
    frame.load({ fromMs: 0, toMs: 3000, stepMs: 1000 }, [{ key: 'a', values: [[0, '1'], [1, '2']] }]);
    expect(column(frame, 'a')).toEqual([1, 2, undefined, undefined]);
  });

  test('trims in batches and forgets columns that ended', () => {
    const frame = new Frame(1e9);
    frame.set(0, 'gone', 1);
    for (let t = 0; t < 100; t++) frame.set(t, 'a', t);
    frame.trim(20);
    expect(frame.times).toHaveLength(100);
    frame.trim(60);
    expect(frame.times[0]).toBe(60);
    expect([...frame.columns.keys()]).toEqual(['a']);
  });
});

test('grids lie on multiples of their step, inside the range', () => {
  expect(gridOf(1234, 9876, 1000)).toEqual({ fromMs: 2000, toMs: 9000, stepMs: 1000 });
});

test('lowerBound', () => {
  expect([0, 1, 2, 5, 9].map((t) => lowerBound([1, 3, 5], t))).toEqual([0, 0, 1, 2, 3]);
});

describe('lines', () => {
  test('stacks pile up, skip the hidden and keep holes', () => {
    const stacked = stack(
      [
        [1, null, undefined, 4],
        [10, null, undefined, undefined],
        [100, null, undefined, 400],
      ],
      [false, true, false],
    );
    expect(stacked[0]).toEqual([1, null, undefined, 4]);
    expect(stacked[2]).toEqual([101, null, undefined, 404]);
  });

  test('derived lines see their row', () => {
    const frame = new Frame(5000);
    frame.set(1, 'total', 10);
    frame.set(1, 'free', 4);
    const [used] = lineColumns(frame, [
      { key: 'used', label: '', colour: '', value: (cell) => (cell('total') as number) - (cell('free') as number) },
    ]);
    expect(used).toEqual([6]);
  });

  test('a hole reaches from value to value', () => {
    const undef = undefined;
    const column = [undef, 1, undef, 2, null, undef, undef, 3, undef, null, undef];
    expect(spreadHoles(column)).toEqual([undef, 1, undef, 2, null, null, null, 3, null, null, null]);
    expect(column[5]).toBeUndefined();
    const whole = [1, null, 2, undef];
    expect(spreadHoles(whole)).toBe(whole);
  });

  test('mirroring leaves holes alone', () => {
    expect(mirror([1, null, undefined, -2])).toEqual([-1, null, undefined, 2]);
  });

  test('a row shows the value just before it, but not across a hole', () => {
    expect(valueAt([1, undefined, undefined], 2)).toBe(1);
    expect(valueAt([1, null, undefined], 2)).toBeNull();
  });
});

describe('what has no place on an axis', () => {
  test('infinite values are holes, so that the others keep their scale', () => {
    expect(finite([1, Infinity, undefined, -Infinity, null, 2])).toEqual([1, null, undefined, null, null, 2]);
    const column = [1, 2];
    expect(finite(column)).toBe(column);
    expect(stack([finite([1, Infinity]), finite([2, 2])], [false, false])).toEqual([[1, 0], [3, 2]]);
  });

  test.each([
    [[0, 3, -9e15], 1000, 1],
    [[], 1000, 1],
    [[1, -2.39e302], 1000, 1e300],
    [[Number.MAX_VALUE], 1000, 1e306],
    [[2 ** 60], 1024, 2 ** 60],
    [[3e-20], 1000, 1e-21],
  ])('%j over powers of %d is drawn divided by %d', (values, base, wanted) => {
    expect(drawnFactor([values], base) / wanted).toBeCloseTo(1, 9);
  });

  test('the smallest number of all can still be divided', () => {
    const factor = drawnFactor([[5e-324]], 1000);
    expect(factor).toBeGreaterThan(0);
    expect(Number.isFinite(1 / factor)).toBe(true);
  });
});
