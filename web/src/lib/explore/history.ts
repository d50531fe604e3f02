/** The queries that were run, newest first, without repetition. */

import { load, save } from '../storage';

const KEY = 'queries';
const KEPT = 50;

const isList = (value: unknown): value is string[] => Array.isArray(value) && value.every((item) => typeof item === 'string');

export const readHistory = (): string[] => load(KEY, isList) ?? [];

export function remember(queries: readonly string[], known: readonly string[] = readHistory()): string[] {
  const fresh = queries.map((query) => query.trim()).filter((query) => query !== '');
  const list = [...new Set([...fresh, ...known])].slice(0, KEPT);
  save(KEY, list);
  return list;
}

export function forget(): void {
  save(KEY, []);
}
