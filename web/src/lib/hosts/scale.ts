/** From values to places on the scale of the heat map. */

import type { Metric } from './columns';

export interface Scale {
  /** Always 0: what is measured here has a natural nothing. */
  top: number;
  /** Whether values may lie beyond the top, where the colour stays that of the top. */
  isOpen: boolean;
}

/** One outlier must not take the colour from all others: the top of an open scale is where all but these lie. */
const OUTLIERS = 0.02;

/**
 * The scale of a metric over these values. An open one ends at a round number, so that it does not move with
 * every collection.
 */
export function scaleOf(metric: Metric, values: readonly (number | null)[]): Scale {
  if (metric.top !== null) return { top: metric.top, isOpen: false };
  const known = values.filter((value): value is number => value !== null && Number.isFinite(value)).sort((a, b) => a - b);
  const high = known[Math.max(0, Math.ceil(known.length * (1 - OUTLIERS)) - 1)] ?? 0;
  return { top: roundUp(Math.max(high, SMALLEST_TOP[metric.unit] ?? 1)), isOpen: true };
}

/** Below these a difference is noise and gets no colour. */
const SMALLEST_TOP: Record<string, number> = { bytesPerSecond: 1 << 20, bitsPerSecond: 1e6, number: 1 };

/** The next of 1, 2, 5, 10, 20, … */
export function roundUp(value: number): number {
  const size = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 2, 5]) if (value <= step * size * (1 + 1e-9)) return step * size;
  return 10 * size;
}

/** Where on the scale a value lies, 0 to 1; null without one. */
export const shareOf = (scale: Scale, value: number | null): number | null =>
  value === null || Number.isNaN(value) ? null : Math.min(1, Math.max(0, value / scale.top));
