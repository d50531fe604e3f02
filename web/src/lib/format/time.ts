/** Times are shown in the zone that was chosen, on a 24-hour clock, biggest unit first, in every language. */

import { asShown, offsetAt } from '../time/zone.svelte';

const pad = (n: number, width = 2) => String(n).padStart(width, '0');

export const clockTime = (ms: number): string => {
  const d = asShown(ms);
  return `${pad(d.getUTCHours())}:${pad(d.getUTCMinutes())}:${pad(d.getUTCSeconds())}`;
};

export const day = (ms: number): string => {
  const d = asShown(ms);
  return `${d.getUTCFullYear()}-${pad(d.getUTCMonth() + 1)}-${pad(d.getUTCDate())}`;
};

export const dateTime = (ms: number): string => `${day(ms)} ${clockTime(ms)}`;

/** Labels for the ticks of a time axis whose neighbours are `gap` milliseconds apart. */
export function timeTicks(ticks: readonly number[], gap: number): string[] {
  let previousDay = '';
  return ticks.map((tick) => {
    const d = asShown(tick);
    const today = `${pad(d.getUTCMonth() + 1)}-${pad(d.getUTCDate())}`;
    const turned = previousDay !== '' && today !== previousDay;
    previousDay = today;
    if (gap >= 86_400_000) return today;
    const time =
      gap < 1000
        ? `${clockTime(tick)}.${pad(d.getUTCMilliseconds(), 3)}`
        : gap < 60_000
          ? clockTime(tick)
          : `${pad(d.getUTCHours())}:${pad(d.getUTCMinutes())}`;
    return turned ? `${today} ${time}` : time;
  });
}

/** A duration in its two largest units, e.g. `3d 4h`, `12m 5s`; the unit letters are Prometheus'. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '–';
  if (seconds < 0) return `−${duration(-seconds)}`;
  if (seconds < 1) return `${Math.round(seconds * 1000)}ms`;
  const units: [number, string][] = [
    [86400, 'd'],
    [3600, 'h'],
    [60, 'm'],
    [1, 's'],
  ];
  let rest = Math.floor(seconds);
  const parts: string[] = [];
  for (const [size, letter] of units) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count}${letter}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.length > 0 ? parts.join(' ') : '0s';
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const GAPS = [
  ...[1, 2, 5, 10, 15, 30].map((n) => n * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE),
  ...[1, 2, 3, 6, 12].map((n) => n * HOUR),
  ...[1, 2, 5, 10, 30, 100, 365].map((n) => n * DAY),
];

/** Round times, as clocks here show them, between two; about `most` of them at the most. */
export function roundTimes(from: number, to: number, most: number): { times: number[]; gap: number } {
  const gap = GAPS.find((one) => (to - from) / one <= most) ?? (to - from) / most;
  const offset = -offsetAt(from) * MINUTE;
  const first = Math.ceil((from - offset) / gap) * gap + offset;
  const times: number[] = [];
  for (let at = first; at <= to; at += gap) times.push(at);
  return { times, gap };
}
