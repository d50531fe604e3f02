/** The newest value of each series of some gauges, for tables. */

import { toNumber, type InstantSeries, type Labels } from '../api/client';
import { labelsKey } from '../chart/frame';

export interface LatestValue {
  labels: Labels;
  value: number;
  atMs: number;
}

export class Latest {
  #byKey = new Map<string, LatestValue>();
  #numbers = new Map<number, { key: string; labels: Labels }>();

  /** Replaces everything by the answer of an instant query. */
  load(vector: readonly InstantSeries[]): void {
    this.#byKey.clear();
    for (const { metric, value } of vector) {
      if (value) this.#byKey.set(labelsKey(metric), { labels: metric, value: toNumber(value[1]), atMs: value[0] * 1000 });
    }
  }

  add(number: number, labels: Labels): void {
    this.#numbers.set(number, { key: labelsKey(labels), labels });
  }

  /** Forgets the series' numbers, which a new connection assigns anew. */
  renumber(): void {
    this.#numbers.clear();
  }

  /** Takes a sample; null ends the series. */
  push(number: number, atMs: number, value: number | null): void {
    const series = this.#numbers.get(number);
    if (!series) return;
    if (value === null) this.#byKey.delete(series.key);
    else this.#byKey.set(series.key, { labels: series.labels, value, atMs });
  }

  /** Drops what has not been renewed since `atMs`, such as processes that left the top list. */
  expire(atMs: number): void {
    for (const [key, entry] of this.#byKey) if (entry.atMs < atMs) this.#byKey.delete(key);
  }

  /**
   * The series of a metric, of which those alike in their `own` labels are copies of one, such as those of two
   * Prometheus that collect the same host: the newest of them stands for all.
   */
  of(metric: string, own: readonly string[]): LatestValue[] {
    const newest = new Map<string, LatestValue>();
    for (const entry of this.#byKey.values()) {
      if (entry.labels.__name__ !== metric) continue;
      const key = own.map((label) => entry.labels[label] ?? '').join('\u0000');
      const known = newest.get(key);
      if (!known || entry.atMs > known.atMs) newest.set(key, entry);
    }
    return [...newest.values()];
  }

  /** The newest series of a metric of which a host has one; null without it. */
  one(metric: string): LatestValue | null {
    return this.of(metric, [])[0] ?? null;
  }
}
