import { expect, test } from 'vitest';
import { partsAround, rowsOf, type Node } from '../src/lib/api/explain';

const node = (expr: string, ...children: Node[]): Node => ({
  expr,
  children,
  start: 0,
  end: expr.length,
  kind: 'call',
  name: expr,
  type: 'vector',
  strategy: 'rows',
  steps: 1,
  self_ms: 1,
  total_ms: 2,
  series_in: 1,
  series_out: 1,
});

test('a tree becomes rows, parts below the whole', () => {
  const rows = rowsOf(node('a', node('b', node('c')), node('d')));
  expect(rows.map(({ node: { expr }, depth, isLast }) => [expr, depth, isLast])).toEqual([
    ['a', 0, true],
    ['b', 1, false],
    ['c', 2, true],
    ['d', 1, true],
  ]);
});

test('places are bytes, texts are not', () => {
  expect(partsAround('sum(x)', 4, 5)).toEqual(['sum(', 'x', ')']);
  expect(partsAround('{"度"=""} + up', 13, 15)).toEqual(['{"度"=""} + ', 'up', '']);
});
