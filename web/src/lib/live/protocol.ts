/** The frames of `/api/v1/live`, and the guard that turns a text frame into one of them. */

import type { InstantSeries, Labels } from '../api/client';

/** Series number (per subscription), milliseconds, value. */
export type LiveSample = [number, number, number | 'NaN' | '+Inf' | '-Inf' | 'stale'];

export type ClientFrame =
  | { type: 'subscribe'; id: number; selector: string }
  | { type: 'subscribe'; id: number; expr: string; interval_ms: number }
  | { type: 'unsubscribe'; id: number };

export type ServerFrame =
  | { type: 'series'; id: number; series: [number, Labels][] }
  | { type: 'samples'; id: number; samples: LiveSample[] }
  | { type: 'result'; id: number; t: number; result: InstantSeries[] }
  | { type: 'missed'; id: number; samples: number }
  | { type: 'error'; id?: number; error: string };

const TYPES = new Set(['series', 'samples', 'result', 'missed', 'error']);

/** Yields null for anything that is not a frame of this protocol; a newer server may say more than we know. */
export function parseFrame(text: unknown): ServerFrame | null {
  if (typeof text !== 'string') return null;
  try {
    const frame = JSON.parse(text) as { type?: unknown };
    return typeof frame === 'object' && frame !== null && typeof frame.type === 'string' && TYPES.has(frame.type)
      ? (frame as ServerFrame)
      : null;
  } catch {
    return null;
  }
}

/** A sample's value as a number; `null` marks the end of the series (a stale marker). */
export function sampleValue(value: LiveSample[2]): number | null {
  if (typeof value === 'number') return value;
  if (value === 'stale') return null;
  return value === '+Inf' ? Infinity : value === '-Inf' ? -Infinity : NaN;
}
