import { expect, test } from 'vitest';
import { askedAt, readRates, type RunningQuery } from '../src/lib/api/queries';

const query = (id: string, samples: number): RunningQuery => ({
  id,
  samples,
  query: 'up',
  language: 'promql',
  remote_addr: '127.0.0.1:1',
  duration: '1.000s',
  start: 0,
  end: 0,
  step: 0,
  bytes: 0,
  peak_bytes: 0,
});

test('samples per second come from two looks, and not from the first', () => {
  const first = { atMs: 1_000, list: [query('a', 100), query('gone', 5)] };
  expect([...readRates(null, first)]).toEqual([
    ['a', null],
    ['gone', null],
  ]);
  const second = { atMs: 3_000, list: [query('a', 500), query('new', 7)] };
  expect([...readRates(first, second)]).toEqual([
    ['a', 200],
    ['new', null],
  ]);
});

test.each([
  ['rate(x[5m])', 'promql', 3600, '/explore?q=rate%28x%5B5m%5D%29&range=3600s'],
  ['up', 'promql', 0, '/explore?q=up&tab=table'],
  ['{a="b"}', 'logql', 60, '/logs?q=%7Ba%3D%22b%22%7D&range=60s'],
  ['/federate {job="a"}', '', 0, null],
] as const)('%s (%s) is asked again where it belongs', (text, language, seconds, wanted) => {
  expect(askedAt(text, language, seconds)).toBe(wanted);
});
