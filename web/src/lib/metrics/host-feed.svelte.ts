/** One host's data: the past by range queries, the present by subscription, both in the same frames. */

import { query, queryRange, queryVector, series, toNumber, type Labels, type RangeSeries } from '../api/client';
import { Frame, gridOf } from '../chart/frame';
import { detectInterval } from '../live/derive';
import { Mender } from '../live/mender';
import { sampleValue, type LiveSample } from '../live/protocol';
import { live } from '../live/socket.svelte';
import { now } from '../time/clock';
import { bounds, formatDuration, spanOf, stepFor, type Range } from '../time/range';
import { Latest } from './latest';
import { CORES_SOURCE, LATEST_METRICS, PANELS } from './panels';
import { Fold, gapAfter, historyQuery, hostMatchers, lineKey, selector, type Host, type Resolution, type Source } from './source';
import { PRESENCE_METRIC } from './vitals';

export type FeedPhase = 'loading' | 'ready' | 'missing' | 'failed';
export type PanelPhase = 'loading' | 'ready' | { error: string };

/** More points than two per pixel cannot be seen. */
const POINTS = 900;
const PULSE_MS = 400;
const POLL_MS = 5_000;
const FALLBACK_INTERVAL_MS = 15_000;

/** What a chart draws from, whether a panel or the heat strip. */
const CHARTS: readonly { id: string; sources: readonly Source[] }[] = [
  ...PANELS,
  { id: 'cores', sources: [CORES_SOURCE] },
];

export class HostFeed {
  phase = $state<FeedPhase>('loading');
  error = $state('');
  job = $state('');
  intervalMs = $state(1000);
  newestMs = $state(0);
  /** Rises when there is something new to show, at most every few hundred milliseconds. */
  pulse = $state(0);
  panels = $state<Record<string, PanelPhase>>({});
  readonly frames = new Map<string, Frame>(CHARTS.map(({ id }) => [id, new Frame(5_000)]));
  readonly latest = new Latest();

  #range: Range;
  #abort = new AbortController();
  #unsubscribe: (() => void) | null = null;
  #poll: ReturnType<typeof setInterval> | undefined;
  #pulsing: ReturnType<typeof setTimeout> | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  /** Per series number: the folds it feeds, with their frames. */
  #routes = new Map<number, { fold: Fold; frame: Frame }[]>();
  #folds: { fold: Fold; frame: Frame }[] = [];
  /** Per series number: the time of its newest sample. */
  #newest = new Map<number, number>();
  #mender: Mender | null = null;

  constructor(
    readonly instance: string,
    wantedJob: string | null,
    range: Range,
  ) {
    this.#range = range;
    void this.#begin(wantedJob);
  }

  /** Shows another range; frames keep their old lines until the new ones arrive. */
  show(range: Range): void {
    this.#range = range;
    if (this.phase === 'ready') void this.#load();
  }

  close(): void {
    this.#abort.abort();
    this.#unsubscribe?.();
    this.#mender?.close();
    clearInterval(this.#poll);
    clearTimeout(this.#pulsing);
    clearTimeout(this.#retry);
  }

  get host(): Host {
    return { instance: this.instance, job: this.job };
  }

  async #begin(wantedJob: string | null): Promise<void> {
    const abort = this.#abort;
    try {
      const found = await this.#identify(wantedJob);
      if (abort.signal.aborted) return;
      if (!found) {
        this.phase = 'missing';
        this.#tryAgain(wantedJob);
        return;
      }
      this.phase = 'ready';
      await this.#load();
    } catch (error) {
      if (abort.signal.aborted) return;
      this.phase = 'failed';
      this.error = message(error);
      this.#tryAgain(wantedJob);
    }
  }

  /** The host may be about to send its first sample, or the server about to start. */
  #tryAgain(wantedJob: string | null): void {
    this.#retry = setTimeout(() => void this.#begin(wantedJob), POLL_MS);
  }

  /** Finds the job under which the host is collected, and how often. */
  async #identify(wantedJob: string | null): Promise<boolean> {
    const matchers = [{ label: 'instance', op: '=' as const, value: this.instance }];
    const { from, to } = bounds(this.#range, now());
    const wanted = (labels: Labels) => wantedJob === null || labels.job === wantedJob;
    const recent = await query(`${selector(PRESENCE_METRIC, matchers)}[75s]`);
    const candidates = (recent.data.resultType === 'matrix' ? (recent.data.result as RangeSeries[]) : [])
      .filter(({ metric }) => wanted(metric))
      .sort((a, b) => (b.values?.length ?? 0) - (a.values?.length ?? 0));
    const best = candidates[0];
    if (best) {
      this.job = best.metric.job ?? '';
      const stamps = (best.values ?? []).map(([second]) => second * 1000);
      this.intervalMs = detectInterval(stamps) ?? (this.job === 'node' ? 1000 : FALLBACK_INTERVAL_MS);
      const copies = candidates.filter(({ metric }) => metric.job === best.metric.job);
      this.newestMs = Math.max(...copies.map(({ values = [] }) => (values[values.length - 1]?.[0] ?? 0) * 1000));
      return true;
    }
    const past = (await series(selector(PRESENCE_METRIC, matchers), from, to)).find(wanted);
    if (!past) return false;
    this.job = past.job ?? '';
    this.intervalMs = FALLBACK_INTERVAL_MS;
    await this.#recall(selector(PRESENCE_METRIC, hostMatchers(this.host)), now() - from);
    return true;
  }

  /** Finds out when a silent host was last heard of, and how often it was collected until then. */
  async #recall(presence: string, spanMs: number): Promise<void> {
    const [last] = await queryVector(`max_over_time(timestamp(${presence})[${formatDuration(spanMs)}:1m])`);
    if (!last?.value) return;
    this.newestMs = toNumber(last.value[1]) * 1000;
    const { data } = await query(`${presence}[75s]`, { atMs: this.newestMs });
    const [raw] = data.resultType === 'matrix' ? (data.result as RangeSeries[]) : [];
    this.intervalMs = detectInterval((raw?.values ?? []).map(([second]) => second * 1000)) ?? this.intervalMs;
  }

  #resolution(): Resolution {
    return { intervalMs: this.intervalMs, stepMs: stepFor(spanOf(this.#range), POINTS, this.intervalMs) };
  }

  async #load(): Promise<void> {
    this.#abort.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const range = this.#range;
    const resolution = this.#resolution();
    clearInterval(this.#poll);
    this.#unsubscribe?.();
    this.#unsubscribe = null;
    this.#mender?.close();
    this.#mender = null;
    for (const frame of this.frames.values()) {
      frame.gapMs = gapAfter(resolution);
      // Rows at another distance would pass for live ones; the old picture goes when the new one comes.
      frame.staleTail();
    }
    if (range.kind === 'relative') this.#follow(resolution);
    await this.#history(range, resolution, signal);
  }

  async #history(range: Range, resolution: Resolution, signal: AbortSignal): Promise<void> {
    const { from, to } = bounds(range, now());
    const grid = gridOf(from, to, resolution.stepMs);
    const latest = queryVector(
      `{${this.#selection(LATEST_METRICS)}}`,
      range.kind === 'absolute' ? { atMs: Math.min(to, now()), signal } : { signal },
    ).then(
      (vector) => this.latest.load(vector),
      () => undefined,
    );
    const charts = CHARTS.map(async ({ id, sources }) => {
      try {
        const answers = await Promise.all(
          sources.map(async (source) => {
            const { data } = await queryRange(historyQuery(source, this.host, resolution), grid, signal);
            const matrix = data.resultType === 'matrix' ? data.result : [];
            return matrix.map(({ metric, values = [] }) => ({ key: lineKey(source, metric), values }));
          }),
        );
        if (signal.aborted) return;
        this.frames.get(id)?.load(grid, answers.flat());
        this.panels[id] = 'ready';
        this.#pulseSoon();
      } catch (error) {
        if (!signal.aborted) this.panels[id] = { error: message(error) };
      }
    });
    await Promise.all([latest, ...charts]);
    if (!signal.aborted) this.#pulseSoon();
  }

  #selection(metrics: Iterable<string>): string {
    const names = [...new Set(metrics)].sort().join('|');
    return `${selector('', [...hostMatchers(this.host), { label: '__name__', op: '=~', value: names }]).slice(1, -1)}`;
  }

  #follow(resolution: Resolution): void {
    const metrics = [...LATEST_METRICS, ...CHARTS.flatMap(({ sources }) => sources.map(({ metric }) => metric))];
    const { signal } = this.#abort;
    const mender = new Mender(() => this.#history(this.#range, resolution, signal));
    this.#mender = mender;
    const renumber = () => {
      this.#routes.clear();
      this.#newest.clear();
      this.latest.renumber();
      this.#folds = CHARTS.flatMap(({ id, sources }) =>
        sources.map((source) => ({ fold: new Fold(source, resolution), frame: this.frames.get(id) as Frame })),
      );
    };
    renumber();
    this.#unsubscribe = live.selector(`{${this.#selection(metrics)}}`, {
      series: (numbered) => {
        for (const [number, labels] of numbered) this.#route(number, labels);
      },
      samples: (samples) => this.#take(samples),
      restarted: () => {
        renumber();
        mender.interrupted();
      },
      missed: () => mender.interrupted(),
    });
    this.#poll = setInterval(
      () => {
        if (live.connection !== 'open') mender.now();
      },
      Math.max(POLL_MS, resolution.stepMs),
    );
  }

  #route(number: number, labels: Labels): void {
    const routes = this.#folds.filter(({ fold }) => fold.add(number, labels));
    if (routes.length > 0) this.#routes.set(number, routes);
    if (LATEST_METRICS.includes(labels.__name__ ?? '')) this.latest.add(number, labels);
  }

  #take(samples: readonly LiveSample[]): void {
    // What an agent kept back while nobody took it; as live samples it may be cut short or come in any order.
    const lateBefore = this.#mender?.isMending ? now() - Math.max(5_000, 3.5 * this.intervalMs) : -Infinity;
    let isLate = false;
    for (const [number, atMs, wire] of samples) {
      const value = sampleValue(wire);
      const newest = this.#newest.get(number) ?? -Infinity;
      if (atMs < newest || atMs < lateBefore) isLate = true;
      if (atMs > newest) this.#newest.set(number, atMs);
      for (const { fold, frame } of this.#routes.get(number) ?? []) {
        const point = fold.push(number, atMs, value);
        if (point) frame.set(atMs, point.key, point.value);
      }
      this.latest.push(number, atMs, value);
      if (atMs > this.newestMs) this.newestMs = atMs;
    }
    if (isLate) this.#mender?.late();
    this.latest.expire(this.newestMs - Math.max(3.5 * this.intervalMs, 5_000));
    const oldest = bounds(this.#range, now()).from - spanOf(this.#range) * 0.1;
    for (const frame of this.frames.values()) frame.trim(oldest);
    this.#pulseSoon();
  }

  #pulseSoon(): void {
    this.#pulsing ??= setTimeout(() => {
      this.#pulsing = undefined;
      this.pulse++;
    }, PULSE_MS);
  }
}

const message = (error: unknown): string => (error instanceof Error ? error.message : String(error));
