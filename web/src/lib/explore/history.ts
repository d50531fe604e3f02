/** The queries that were run, newest first, without repetition. */

import { load, save } from '../storage';

/** Each language has its own. */
export type HistoryKey = 'queries' | 'log-queries';
const KEPT = 50;

const isList = (value: unknown): value is string[] => Array.isArray(value) && value.every((item) => typeof item === 'string');

export const readHistory = (key: HistoryKey): string[] => load(key, isList) ?? [];

export function remember(key: HistoryKey, queries: readonly string[], known: readonly string[]): string[] {
  const fresh = queries.map((query) => query.trim()).filter((query) => query !== '');
  const list = [...new Set([...fresh, ...known])].slice(0, KEPT);
  save(key, list);
  return list;
}

export function forget(key: HistoryKey): void {
  save(key, []);
}
