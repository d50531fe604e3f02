import { expect, test } from 'vitest';
import { isPromql, readRates, type RunningQuery } from '../src/lib/api/queries';

const query = (id: string, samples: number): RunningQuery => ({
  id,
  samples,
  query: 'up',
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
  ['rate(x[5m])', true],
  ['/federate {job="a"}', false],
])('%s is PromQL: %s', (text, wanted) => expect(isPromql(text)).toBe(wanted));
