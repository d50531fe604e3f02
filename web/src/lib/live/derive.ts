/** From raw samples to the points of a line: counters become rates, steps are kept, holes stay holes. */

export type Kind = 'counter' | 'gauge';

/** A point, a hole, or nothing yet. */
export type Derived = { value: number | null } | undefined;

/**
 * Thins one series to one point per `stepMs` and, for a counter, differentiates it per second.
 *
 * A counter that falls was reset to zero in between, so what it shows is what it gained. A sample after
 * more than `gapMs` of silence starts anew behind a hole: a rate over an outage would be invented.
 */
export class Deriver {
  #atMs = NaN;
  #value = NaN;

  constructor(
    readonly kind: Kind,
    readonly stepMs: number,
    readonly gapMs: number,
  ) {}

  /** Takes the next sample (`null`: a stale marker) and yields the point it completes. */
  push(atMs: number, value: number | null): Derived {
    if (value === null || Number.isNaN(value)) {
      const wasThere = !Number.isNaN(this.#atMs);
      this.#atMs = NaN;
      return wasThere ? { value: null } : undefined;
    }
    const elapsed = atMs - this.#atMs;
    if (Number.isNaN(elapsed)) {
      this.#anchor(atMs, value);
      return this.kind === 'gauge' ? { value } : undefined;
    }
    if (elapsed <= 0) return undefined;
    if (elapsed > this.gapMs) {
      this.#anchor(atMs, value);
      return { value: this.kind === 'gauge' ? value : null };
    }
    // Collection jitters by a few milliseconds; a tenth of a step early is on time.
    if (elapsed < this.stepMs * 0.9) return undefined;
    const gained = value >= this.#value ? value - this.#value : value;
    this.#anchor(atMs, value);
    return { value: this.kind === 'gauge' ? value : gained / (elapsed / 1000) };
  }

  #anchor(atMs: number, value: number): void {
    this.#atMs = atMs;
    this.#value = value;
  }
}

const KNOWN_INTERVALS = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300].map((s) => s * 1000);

/**
 * The collection interval behind ascending timestamps (ms): their median distance, snapped to a customary
 * one when within 20 %. Yields null with fewer than two samples.
 */
export function detectInterval(timestampsMs: readonly number[]): number | null {
  const distances: number[] = [];
  for (let i = 1; i < timestampsMs.length; i++) {
    const distance = (timestampsMs[i] as number) - (timestampsMs[i - 1] as number);
    if (distance > 0) distances.push(distance);
  }
  if (distances.length === 0) return null;
  distances.sort((a, b) => a - b);
  const median = distances[distances.length >> 1] as number;
  return KNOWN_INTERVALS.find((known) => Math.abs(known - median) <= known * 0.2) ?? Math.max(1000, median);
}

/** The window a rate needs to survive one lost sample, in milliseconds; 5 s at the least. */
export const rateWindow = (intervalMs: number): number => Math.max(5_000, 4 * intervalMs);

export type Liveness = 'live' | 'late' | 'gone';

/** A host is late when it has missed two collections, and gone when Prometheus would no longer see it. */
export function liveness(ageMs: number, intervalMs: number): Liveness {
  if (ageMs > 300_000) return 'gone';
  return ageMs <= Math.max(3_500, 2.5 * intervalMs) ? 'live' : 'late';
}
