import { describe, expect, test } from 'vitest';
import { errorPosition, quote, seriesName, toNumber, withoutPosition } from '../src/lib/api/client';
import { summarise } from '../src/lib/explore/summary';
import { labelColumns, tableRows } from '../src/lib/explore/table';
import { parseView, viewParams } from '../src/lib/explore/view';
import { rank, score } from '../src/lib/fuzzy';
import { parseFrame, sampleValue } from '../src/lib/live/protocol';

describe('the view in the address', () => {
  test.each([
    'q=up',
    'q=up&q=rate%28x%5B5m%5D%29&hide=1&range=6h&tab=table&step=30s&refresh=5s&stack=1',
    'q=up&tab=heatmap&exemplars=1',
    'q=up&tab=explain',
    'q=a%26b%3D%22c%22&from=1000&to=61000',
  ])('%s comes back', (text) => {
    const view = parseView(new URLSearchParams(text));
    expect(parseView(viewParams(view))).toEqual(view);
  });

  test('nonsense falls back', () => {
    const view = parseView(new URLSearchParams('tab=pie&step=-1&refresh=3s&hide=x,,9'));
    expect(view).toEqual({
      queries: [{ expr: '', hidden: false }],
      range: { kind: 'relative', span: 3_600_000 },
      tab: 'graph',
      stepMs: null,
      refreshMs: null,
      stacked: false,
      exemplars: false,
    });
  });

  test('queries have a limit', () => {
    const many = new URLSearchParams(Array.from({ length: 50 }, () => ['q', 'up']));
    expect(parseView(many).queries).toHaveLength(10);
  });
});

test.each([
  ['invalid parameter "query": 1:14: parse error: unexpected "("', { line: 1, column: 14 }],
  ['3:2: parse error: unclosed left parenthesis', { line: 3, column: 2 }],
  ['query timed out', null],
])('position in %j', (message, wanted) => {
  expect(errorPosition(message)).toEqual(wanted);
});

test.each([
  ['invalid parameter "query": 1:5: parse error: unclosed left parenthesis', 'unclosed left parenthesis'],
  ['connect to 127.0.0.1:9090: refused', 'connect to 127.0.0.1:9090: refused'],
])('%s without its position', (message, wanted) => {
  expect(withoutPosition(message)).toBe(wanted);
});

test('names and values', () => {
  expect(seriesName({ __name__: 'up' })).toBe('up');
  expect(seriesName({ __name__: 'up', job: 'a"b\\c\nd' })).toBe('up{job="a\\"b\\\\c\\nd"}');
  expect(seriesName({})).toBe('{}');
  expect(quote('"')).toBe('"\\""');
  expect(['1.5', '+Inf', '-Inf', 'NaN'].map(toNumber)).toEqual([1.5, Infinity, -Infinity, NaN]);
});

test('summaries pass over holes', () => {
  expect(summarise([null, 1, undefined, 3, null])).toEqual({ last: 3, min: 1, max: 3, avg: 2 });
  expect(summarise([1.5e308, 1.5e308, -1.5e308]).avg).toBeCloseTo(0.5e308, -300);
  expect(summarise([1, Infinity]).avg).toBe(Infinity);
  expect(summarise([null])).toEqual({ last: null, min: null, max: null, avg: null });
});

describe('tables', () => {
  test('a vector has a column per label, the name first', () => {
    const rows = tableRows({ resultType: 'vector', result: [{ metric: { job: 'a', __name__: 'up' }, value: [1, '1'] }] }, 'A');
    expect(labelColumns(rows)).toEqual(['__name__', 'job']);
    expect(rows[0]?.values).toEqual([{ text: '1', number: 1, atMs: 1000 }]);
  });

  test('too many labels become one column', () => {
    const metric = Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`l${i}`, 'x']));
    expect(labelColumns(tableRows({ resultType: 'vector', result: [{ metric, value: [1, '1'] }] }, 'A'))).toBeNull();
  });

  test('scalars and range selectors are rows too', () => {
    expect(tableRows({ resultType: 'scalar', result: [1, '42'] }, 'A')[0]?.values[0]?.number).toBe(42);
    const rows = tableRows({ resultType: 'matrix', result: [{ metric: {}, values: [[1, '1'], [2, '2']] }] }, 'A');
    expect(rows[0]?.values).toHaveLength(2);
  });
});

describe('fuzzy search', () => {
  test('prefers whole, early and word-wise matches', () => {
    const names = ['node_netstat_Tcp_InErrs', 'node_cpu_seconds_total', 'cpu'];
    expect(rank('cpu', names, (name) => name)[0]).toBe('cpu');
    expect(rank('ncs', names, (name) => name)[0]).toBe('node_cpu_seconds_total');
    expect(rank(' ', names, (name) => name)).toEqual(names);
    expect(score('xyz', 'node')).toBeNull();
  });
});

describe('frames of the live protocol', () => {
  test.each([
    ['{"type":"samples","id":1,"samples":[[0,1,2]]}', true],
    ['{"type":"error","error":"no"}', true],
    ['{"type":"later","id":1}', false],
    ['null', false],
    ['[1', false],
    [new ArrayBuffer(1), false],
  ])('%j', (text, known) => {
    expect(parseFrame(text) !== null).toBe(known);
  });

  test('values', () => {
    expect([1.5, 'NaN', '+Inf', '-Inf', 'stale'].map((v) => sampleValue(v as never))).toEqual([1.5, NaN, Infinity, -Infinity, null]);
  });
});
