/** Time ranges as they stand in the address: `range=5m`, or `from` and `to` in milliseconds. */

import { asShown, zone } from './zone.svelte';

export type Range = { kind: 'relative'; span: number } | { kind: 'absolute'; from: number; to: number };

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** The spans on offer, in milliseconds. */
export const PRESETS: readonly number[] = [MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, 24 * HOUR, 7 * DAY];

export const SHORTEST_SPAN = 5_000;
export const LONGEST_SPAN = 3650 * DAY;

const UNIT_MS: Record<string, number> = {
  ms: 1,
  s: 1000,
  m: MINUTE,
  h: HOUR,
  d: DAY,
  w: 7 * DAY,
  y: 365 * DAY,
};

/** Parses a duration as Prometheus writes it (`90s`, `1h30m`); yields milliseconds, or null if it is none. */
export function parseDuration(text: string): number | null {
  const trimmed = text.trim();
  if (!/^(\d+(ms|[smhdwy]))+$/.test(trimmed)) return null;
  let total = 0;
  for (const [, count, unit] of trimmed.matchAll(/(\d+)(ms|[smhdwy])/g)) {
    total += Number(count) * (UNIT_MS[unit as string] as number);
  }
  return Number.isSafeInteger(total) && total > 0 ? total : null;
}

/** Writes milliseconds as a duration Prometheus reads back to the same value. */
export function formatDuration(ms: number): string {
  let rest = Math.round(ms);
  let text = '';
  for (const unit of ['d', 'h', 'm', 's', 'ms'] as const) {
    const size = UNIT_MS[unit] as number;
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) text += `${count}${unit}`;
  }
  return text === '' ? '0s' : text;
}

export function parseRange(params: URLSearchParams, fallback: number): Range {
  const from = Number(params.get('from') ?? NaN);
  const to = Number(params.get('to') ?? NaN);
  if (Number.isFinite(from) && Number.isFinite(to) && to - from >= 1) return { kind: 'absolute', from, to };
  const span = parseDuration(params.get('range') ?? '');
  return { kind: 'relative', span: span === null ? fallback : clampSpan(span) };
}

export function rangeParams(range: Range): { range: string | null; from: string | null; to: string | null } {
  return range.kind === 'relative'
    ? { range: formatDuration(range.span), from: null, to: null }
    : { range: null, from: String(Math.round(range.from)), to: String(Math.round(range.to)) };
}

export const spanOf = (range: Range): number =>
  range.kind === 'relative' ? range.span : range.to - range.from;

export function bounds(range: Range, now: number): { from: number; to: number } {
  return range.kind === 'relative' ? { from: now - range.span, to: now } : { from: range.from, to: range.to };
}

/** Twice the span around the same middle, but never beyond now. */
export function zoomOut(range: Range, now: number): Range {
  const span = clampSpan(spanOf(range) * 2);
  if (range.kind === 'relative') return { kind: 'relative', span };
  const middle = (range.from + range.to) / 2;
  const to = Math.min(middle + span / 2, Math.max(now, range.to));
  return { kind: 'absolute', from: to - span, to };
}

/** Half the span; a relative range keeps its end at now. */
export function zoomIn(range: Range): Range {
  const span = clampSpan(spanOf(range) / 2);
  if (range.kind === 'relative') return { kind: 'relative', span };
  const middle = (range.from + range.to) / 2;
  return { kind: 'absolute', from: middle - span / 2, to: middle + span / 2 };
}

/** Moves by a share of the span, to the past (negative) or the future; reaching now makes it relative again. */
export function shift(range: Range, share: number, now: number): Range {
  const { from, to } = bounds(range, now);
  const move = (to - from) * share;
  if (to + move >= now) return { kind: 'relative', span: clampSpan(to - from) };
  return { kind: 'absolute', from: from + move, to: to + move };
}

export function clampSpan(span: number): number {
  return Math.min(LONGEST_SPAN, Math.max(SHORTEST_SPAN, Math.round(span)));
}

const NICE_STEPS = [
  1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
].map((seconds) => seconds * 1000);

/** The smallest round step in milliseconds that needs at most `points` points and is not finer than `finest`. */
export function stepFor(span: number, points: number, finest = 1000): number {
  const wanted = Math.max(finest, span / Math.max(1, points));
  return NICE_STEPS.find((step) => step >= wanted) ?? Math.ceil(wanted / DAY) * DAY;
}

/** Parses `YYYY-MM-DD HH:MM[:SS]` (or with `T`) in the zone that times are shown in; null if it names no moment. */
export function parseLocalTime(text: string): number | null {
  const found = /^\s*(\d{4})-(\d{1,2})-(\d{1,2})(?:[ T]+(\d{1,2}):(\d{2})(?::(\d{2}))?)?\s*$/.exec(text);
  if (!found) return null;
  const [year, month, date, hour, minute, second] = found.slice(1).map((part) => Number(part ?? 0)) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const isUtc = zone.chosen === 'UTC';
  const ms = isUtc ? Date.UTC(year, month - 1, date, hour, minute, second) : new Date(year, month - 1, date, hour, minute, second).getTime();
  // Date rolls 31 February over into March; a typed date that does so is a mistake.
  const shown = asShown(ms);
  const same = shown.getUTCMonth() === month - 1 && shown.getUTCDate() === date && hour < 24 && minute < 60 && second < 60;
  return same ? ms : null;
}
