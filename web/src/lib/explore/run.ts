/** Running a query of Explore and what came of it. */

import { ApiError, query, queryRange, type Answer, type QueryData } from '../api/client';
import { exemplars, type Exemplar } from '../api/exemplars';
import { explain, type Explanation } from '../api/explain';
import { gridOf, type Grid } from '../chart/frame';
import type { Tab } from './view';

export interface Failure {
  /** The API's error type; `network` if there was no answer. */
  type: string;
  message: string;
}

export type Outcome =
  | { phase: 'running' }
  | { phase: 'failed'; failure: Failure }
  | {
      phase: 'done';
      answer: Answer<QueryData>;
      grid: Grid | null;
      /** How many series, or values, the query yields. */
      size: number;
      exemplars: Exemplar[];
      explanation: Explanation | null;
    };

export interface When {
  fromMs: number;
  toMs: number;
  stepMs: number;
}

/** Runs one query for a tab; yields null when `signal` ended it. */
export async function run(
  expr: string,
  { tab, exemplars: withExemplars }: { tab: Tab; exemplars: boolean },
  when: When,
  signal: AbortSignal,
): Promise<Outcome | null> {
  try {
    if (tab === 'table') {
      const answer = await query(expr, { atMs: when.toMs, signal });
      return { phase: 'done', answer, grid: null, size: sizeOf(answer.data), exemplars: [], explanation: null };
    }
    const grid = gridOf(when.fromMs, when.toMs, when.stepMs);
    if (tab === 'explain') {
      const { data, ...rest } = await explain(expr, grid, signal);
      const answer: Answer<QueryData> = { ...rest, data: { resultType: 'matrix', result: [] } };
      return { phase: 'done', answer, grid, size: data.series, exemplars: [], explanation: data };
    }
    // Exemplars are a nicety: without them the graph still stands.
    const wantsExemplars = withExemplars && tab === 'graph';
    const dots = wantsExemplars ? exemplars(expr, when, signal).catch(() => []) : [];
    const answer = await queryRange(expr, grid, signal);
    return { phase: 'done', answer, grid, size: sizeOf(answer.data), exemplars: await dots, explanation: null };
  } catch (error) {
    if (signal.aborted) return null;
    const failure =
      error instanceof ApiError ? { type: error.type, message: error.message } : { type: 'unknown', message: String(error) };
    return { phase: 'failed', failure };
  }
}

const sizeOf = (data: QueryData): number =>
  data.resultType === 'vector' || data.resultType === 'matrix' ? data.result.length : 1;
