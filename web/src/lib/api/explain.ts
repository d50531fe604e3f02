/** What each part of a query took. */

import { getAnswer, type Answer } from './client';

export type Kind = 'selector' | 'range_selector' | 'subquery' | 'call' | 'aggregation' | 'binary' | 'unary' | 'number' | 'string';
export type Strategy = 'fused' | 'rows' | 'once' | 'constant';

export interface Node {
  expr: string;
  /** Its place in the query, in bytes of UTF-8. */
  start: number;
  end: number;
  kind: Kind;
  name: string;
  type: string;
  /** Null if it was not evaluated. */
  strategy: Strategy | null;
  steps: number;
  /** Of all threads together: for itself, and with everything below. */
  self_ms: number;
  total_ms: number;
  series_in: number;
  series_out: number;
  children: Node[];
  /** These only of selectors. */
  select_ms?: number;
  samples_read?: number;
  blocks?: number;
  chunks?: number;
  head_series?: number;
  bytes_read?: number;
}

export interface Explanation {
  query: string;
  resultType: string;
  series: number;
  points: number;
  tree: Node;
  totals: {
    duration_ms: number;
    queued_ms: number;
    busy_ms: number;
    threads: number;
    select_ms: number;
    output_ms: number;
    samples_read: number;
    peak_bytes: number;
    blocks: number;
    chunks: number;
    head_series: number;
    bytes_read: number;
    /** Resolutions of the rollups that were read instead of samples. */
    rollups?: string[];
  };
}

/** Runs `expr` over a range, or at one moment if there is no step, and tells what it took. */
export function explain(
  expr: string,
  { fromMs, toMs, stepMs }: { fromMs: number; toMs: number; stepMs: number },
  signal?: AbortSignal,
): Promise<Answer<Explanation>> {
  const params = { query: expr, start: String(fromMs / 1000), end: String(toMs / 1000), step: String(stepMs / 1000) };
  return getAnswer<Explanation>('/api/v1/query_explain', params, signal);
}

/** A node with its depth and the number of the one it belongs to. */
export interface Row {
  node: Node;
  depth: number;
  /** Whether more of its parent follow, by depth: where lines go on downwards. */
  isLast: boolean;
}

/** The tree as rows, each below what it is part of. */
export function rowsOf(tree: Node): Row[] {
  const rows: Row[] = [];
  const walk = (node: Node, depth: number, isLast: boolean): void => {
    rows.push({ node, depth, isLast });
    for (const [i, child] of node.children.entries()) walk(child, depth + 1, i === node.children.length - 1);
  };
  walk(tree, 0, true);
  return rows;
}

/** A text in three parts around a place that is given in bytes of UTF-8. */
export function partsAround(text: string, start: number, end: number): [string, string, string] {
  const bytes = new TextEncoder().encode(text);
  const decode = (from: number, to: number): string => new TextDecoder().decode(bytes.subarray(from, to));
  return [decode(0, start), decode(start, end), decode(end, bytes.length)];
}
