/** Running a query of Explore and what came of it. */

import { ApiError, query, queryRange, type Answer, type QueryData } from '../api/client';
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
  | { phase: 'done'; answer: Answer<QueryData>; grid: Grid | null };

export interface When {
  fromMs: number;
  toMs: number;
  stepMs: number;
}

/** Runs one query for a tab; yields null when `signal` ended it. */
export async function run(expr: string, tab: Tab, when: When, signal: AbortSignal): Promise<Outcome | null> {
  try {
    if (tab === 'table') {
      return { phase: 'done', answer: await query(expr, { atMs: when.toMs, signal }), grid: null };
    }
    const grid = gridOf(when.fromMs, when.toMs, when.stepMs);
    return { phase: 'done', answer: await queryRange(expr, grid, signal), grid };
  } catch (error) {
    if (signal.aborted) return null;
    const failure =
      error instanceof ApiError ? { type: error.type, message: error.message } : { type: 'unknown', message: String(error) };
    return { phase: 'failed', failure };
  }
}

/** How many series, or values, an answer has. */
export const sizeOf = (data: QueryData): number =>
  data.resultType === 'vector' || data.resultType === 'matrix' ? data.result.length : 1;
