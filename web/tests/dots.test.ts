import { expect, test } from 'vitest';
import { traceOf, type Exemplar } from '../src/lib/api/exemplars';
import { dotsOf } from '../src/lib/explore/dots';

const at = (atMs: number, value: number): Exemplar => ({ series: {}, labels: { trace_id: `t${atMs}` }, value, atMs });
const place = ({ atMs, value }: Exemplar) => (atMs < 0 ? null : { x: atMs, y: 100 - value });

test('dots lie in order of time; of those at one place the latest stays', () => {
  const dots = dotsOf([at(300, 50), at(100, 10), at(101, 10.5), at(-5, 1)], place);
  expect(dots.map(({ exemplar }) => exemplar.atMs)).toEqual([101, 300]);
});

test('what is above the axis lies at its edge', () => {
  const [dot] = dotsOf([at(10, 130)], place);
  expect([dot?.y, dot?.isAbove, dot?.exemplar.value]).toEqual([0, true, 130]);
});

test('of too many the largest stay', () => {
  const many = Array.from({ length: 1000 }, (_, i) => at(i * 10, i / 20));
  const dots = dotsOf(many, place);
  expect(dots).toHaveLength(400);
  expect(dots[0]?.exemplar.atMs).toBe(6000);
});

test.each([
  [{ trace_id: 'a', traceID: 'b' }, 'a'],
  [{ traceID: 'b' }, 'b'],
  [{ span_id: 'c' }, null],
])('the trace of %j', (labels, wanted) => {
  expect(traceOf({ series: {}, labels: labels as Record<string, string>, value: 1, atMs: 0 })).toBe(wanted);
});
