import { expect, test } from 'vitest';
import { dayOf, narrowed, pairOf, shiftDay } from '../src/lib/api/cardinality';

test.each([
  ['', 'job', 'a', '{job="a"}'],
  ['up', 'job', 'a', 'up{job="a"}'],
  ['up{}', 'job', 'a', 'up{job="a"}'],
  ['{x="y"} ', 'job', 'a"b', '{x="y", job="a\\"b"}'],
  ['{x="y",}', 'job', 'a', '{x="y",job="a"}'],
  ['{job="a"}', 'job', 'a', '{job="a"}'],
  ['', 'http.status', '5', '{"http.status"="5"}'],
])('%j with %s=%s', (selector, label, value, wanted) => {
  expect(narrowed(selector, label, value)).toBe(wanted);
});

test('pairs and days', () => {
  expect(pairOf('path=/a=b')).toEqual(['path', '/a=b']);
  expect(dayOf(Date.UTC(2026, 10, 28, 23, 59))).toBe('2026-11-28');
  expect(shiftDay('2026-03-01', -1)).toBe('2026-02-28');
});
