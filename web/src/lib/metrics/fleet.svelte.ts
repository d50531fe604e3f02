/** All hosts and their vitals, kept current: the model behind the Hosts page and the command palette. */

import {
  query,
  queryRange,
  queryVector,
  series,
  toNumber,
  type InstantSeries,
  type Labels,
  type RangeSeries,
} from '../api/client';
import { Frame, gridOf } from '../chart/frame';
import { detectInterval, liveness, type Liveness } from '../live/derive';
import { followVector } from '../live/vector.svelte';
import { now } from '../time/clock';
import { DAY, MINUTE } from '../time/range';
import { FACT_QUERIES, PRESENCE_METRIC, vitalIntervals, vitalQueries, VITALS, type Fact, type Vital } from './vitals';

export interface HostVitals {
  id: string;
  instance: string;
  job: string;
  /** Of the presence metric, and what the facts say under the names they have there. A new object when it changes. */
  labels: Labels;
  os: string;
  kernel: string;
  bootSeconds: number | null;
  cores: number | null;
  memoryTotal: number | null;
  cpu: number | null;
  memory: number | null;
  swap: number | null;
  disk: number | null;
  fullestMount: string;
  /** Bytes read and written per second. */
  diskIo: number | null;
  networkIn: number | null;
  networkOut: number | null;
  load1: number | null;
  seenMs: number | null;
  intervalMs: number;
  status: Liveness;
}

export const SPARK_SPAN_MS = 5 * MINUTE;
const SPARKS = ['cpu', 'memory', 'networkIn', 'networkOut'] as const;
export type Spark = (typeof SPARKS)[number];

const DETECT_WINDOW = '75s';
const PUBLISH_MS = 500;
/** Until each vital has come once, what has come is shown without waiting for the others. */
const FIRST_PUBLISH_MS = 50;
const FACTS_MS = 60_000;
const GREET_MS = 500;
const SILENCE_MS = 15_000;
/** When to look history up after a silence: what agents kept back comes later than the first new sample. */
const BACKLOG_MS = [0, 20_000, 60_000] as const;
const REDETECT_MS = 15_000;
/** With more hosts than these the raw samples of all are worth asking for only so often. */
const MANY_HOSTS = 100;
const REDETECT_MANY_MS = 60_000;
/** How long an unused fleet stays subscribed: going to a host and back should not start from nothing. */
const LINGER_MS = 30_000;
/** Until a second sample shows the interval, assume the agent's own. */
const ASSUMED_INTERVAL_MS = 1000;

export const hostId = (labels: Labels): string => `${labels.instance ?? ''}\u0000${labels.job ?? ''}`;

export class Fleet {
  hosts = $state.raw<HostVitals[]>([]);
  phase = $state<'loading' | 'ready' | 'failed'>('loading');
  error = $state('');
  /** Whether every vital and fact has come once; until then an order by one of them is a guess. */
  isComplete = $state(false);
  readonly sparks: Record<Spark, Frame> = {
    cpu: new Frame(20_000),
    memory: new Frame(20_000),
    networkIn: new Frame(20_000),
    networkOut: new Frame(20_000),
  };

  #byId = new Map<string, HostVitals>();
  #stops: (() => void)[] = [];
  #timers: ReturnType<typeof setInterval>[] = [];
  #windows = '';
  #publishing: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;
  #users = 0;
  #reloadSparks = () => {};
  #takenMs = NaN;
  #detectedAt = -Infinity;
  /** How often the hosts' newest times are learnt; a host cannot be known to be late sooner. */
  #seenEveryMs = 0;
  #sparkUsers = 0;
  #come = new Set<Vital>();
  #factsCame = false;
  #publishedAt = -Infinity;
  #greeting: ReturnType<typeof setTimeout> | undefined;
  #reloading: ReturnType<typeof setTimeout>[] = [];
  #lingering: ReturnType<typeof setTimeout> | undefined;

  /** Runs the fleet until the returned function is called, and a little longer. */
  use(): () => void {
    this.#users++;
    clearTimeout(this.#lingering);
    if (this.#timers.length === 0) this.#start();
    return () => {
      this.#users--;
      if (this.#users === 0) this.#lingering = setTimeout(() => this.#stop(), LINGER_MS);
    };
  }

  /** Keeps the sparklines' history until the returned function is called; only who draws them pays for them. */
  useSparks(): () => void {
    this.#sparkUsers++;
    if (this.#sparkUsers === 1) this.#reloadSparks();
    return () => {
      this.#sparkUsers--;
    };
  }

  restart(): void {
    this.#stop();
    this.phase = 'loading';
    this.#start();
  }

  #start(): void {
    this.#stopped = false;
    void this.#begin();
    this.#timers.push(
      setInterval(() => void this.#loadFacts(), FACTS_MS),
      setInterval(() => void this.#redetect(), REDETECT_MS),
      // Ages grow without any message; statuses must follow.
      setInterval(() => {
        if (performance.now() - this.#publishedAt >= this.#seenEveryMs / 2) this.#publish();
      }, 1000),
    );
  }

  #stop(): void {
    this.#stopped = true;
    this.#windows = '';
    this.#come.clear();
    this.#factsCame = false;
    this.isComplete = false;
    for (const stop of this.#stops.splice(0)) stop();
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
    for (const timer of this.#reloading.splice(0)) clearTimeout(timer);
    clearTimeout(this.#publishing);
    this.#publishing = undefined;
  }

  async #begin(): Promise<void> {
    await this.#detect();
    await this.#loadFacts();
  }

  async #redetect(): Promise<void> {
    const isDue = performance.now() - this.#detectedAt >= REDETECT_MANY_MS;
    if (this.#byId.size <= MANY_HOSTS || isDue) await this.#detect();
  }

  /** Learns each host's collection interval, and follows the vitals with windows that fit. */
  async #detect(): Promise<void> {
    this.#detectedAt = performance.now();
    try {
      const { data } = await query(`${PRESENCE_METRIC}[${DETECT_WINDOW}]`);
      if (this.#stopped) return;
      const intervals = new Map<HostVitals, number>();
      for (const { metric, values = [] } of data.resultType === 'matrix' ? (data.result as RangeSeries[]) : []) {
        const host = this.#host(metric);
        describe(host, metric);
        const known = detectInterval(values.map(([second]) => second * 1000));
        const interval = known ?? (values.length > 0 && host.seenMs === null ? ASSUMED_INTERVAL_MS : host.intervalMs);
        // Of a host that is collected twice, such as by two Prometheus, the faster collection counts.
        intervals.set(host, Math.min(interval, intervals.get(host) ?? Infinity));
      }
      for (const [host, interval] of intervals) host.intervalMs = interval;
      this.#follow([...new Set(intervals.values())]);
    } catch (error) {
      this.#fail(error);
    }
  }

  #follow(intervalsMs: number[]): void {
    const list = intervalsMs.length > 0 ? intervalsMs : [ASSUMED_INTERVAL_MS];
    const queries = vitalQueries(list);
    const every = vitalIntervals(this.#byId.size, list);
    this.#seenEveryMs = every.seen;
    this.#reloadSparks = () => void this.#loadSparks(queries, Math.max(...list));
    const windows = JSON.stringify([queries, every]);
    if (windows === this.#windows) return;
    this.#windows = windows;
    for (const stop of this.#stops.splice(0)) stop();
    for (const vital of VITALS) {
      this.#stops.push(
        followVector(
          queries[vital],
          every[vital],
          (vector, atMs) => this.#take(vital, vector, atMs),
          (error) => this.#fail(error),
        ),
      );
    }
    this.#reloadSparks();
  }

  async #loadSparks(queries: Record<Vital, string>, slowestMs: number): Promise<void> {
    if (this.#sparkUsers === 0) return;
    const to = now();
    const stepMs = this.#byId.size > 40 ? 5000 : 2000;
    const grid = gridOf(to - SPARK_SPAN_MS, to, stepMs);
    await Promise.all(
      SPARKS.map(async (spark) => {
        try {
          const { data } = await queryRange(queries[spark], grid);
          if (this.#stopped || data.resultType !== 'matrix') return;
          const frame = this.sparks[spark];
          frame.gapMs = Math.max(20_000, 3 * slowestMs);
          frame.load(grid, data.result.map(({ metric, values = [] }) => ({ key: hostId(metric), values })));
        } catch {
          // The sparkline grows from live values alone; the figures themselves report their own failures.
        }
      }),
    );
  }

  #take(vital: Vital, vector: readonly InstantSeries[], atMs: number): void {
    if (this.#stopped) return;
    this.#come.add(vital);
    const present = new Set<HostVitals>();
    for (const { metric, value } of vector) {
      if (!value) continue;
      const host = this.#host(metric);
      const number = toNumber(value[1]);
      if (vital === 'disk') {
        if (present.has(host) && (host.disk ?? 0) >= number) continue;
        host.fullestMount = metric.mountpoint ?? '';
        host.disk = number;
      } else if (vital === 'seen') {
        host.seenMs = Math.max(host.seenMs ?? 0, number * 1000);
      } else {
        host[vital] = bounded(vital, number);
      }
      present.add(host);
      const frame = this.#sparkUsers > 0 ? (this.sparks[vital as Spark] as Frame | undefined) : undefined;
      const shown = bounded(vital, number);
      if (frame && shown !== null) frame.set(Math.round(atMs), host.id, shown);
    }
    if (vital !== 'seen') for (const host of this.#byId.values()) if (!present.has(host)) host[vital] = null;
    if (vital === 'seen') this.#arrived(atMs);
    for (const frame of Object.values(this.sparks)) frame.trim(atMs - SPARK_SPAN_MS * 1.2);
    this.#publishSoon();
  }

  /** The vector that every host is in has come. After a silence (sleep, lost connection) history has more. */
  #arrived(atMs: number): void {
    if (atMs - this.#takenMs > SILENCE_MS) {
      for (const afterMs of BACKLOG_MS) this.#reloading.push(setTimeout(() => this.#reloadSparks(), afterMs));
    }
    this.#takenMs = atMs;
    this.phase = 'ready';
  }

  async #loadFacts(): Promise<void> {
    const take = async (fact: Fact) => {
      for (const { metric, value } of await queryVector(FACT_QUERIES[fact])) {
        if (value) assignFact(this.#host(metric), fact, metric, toNumber(value[1]));
      }
    };
    // Also of hosts that were too silent for their interval to be learnt.
    const takeLabels = async () => {
      for (const { metric } of await queryVector(PRESENCE_METRIC)) describe(this.#host(metric), metric);
    };
    try {
      await Promise.all([takeLabels(), ...(Object.keys(FACT_QUERIES) as Fact[]).map(take)]);
      await this.#loadGone();
    } catch {
      // Facts decorate; whether the server can be reached shows in the vitals.
    }
    if (this.#stopped) return;
    this.#factsCame = true;
    this.#publish();
  }

  /** Hosts that sent something within a day and are silent now. */
  async #loadGone(): Promise<void> {
    const silent = (await series(PRESENCE_METRIC, now() - DAY, now())).filter(
      (labels) => !this.#byId.get(hostId(labels))?.seenMs,
    );
    if (silent.length === 0) return;
    for (const labels of silent) describe(this.#host(labels), labels);
    const lastSeen = await queryVector(`max by (instance, job) (max_over_time(timestamp(${PRESENCE_METRIC})[1d:1m]))`);
    for (const { metric, value } of lastSeen) {
      const host = this.#byId.get(hostId(metric));
      if (host && value && host.seenMs === null) host.seenMs = toNumber(value[1]) * 1000;
    }
  }

  #host(labels: Labels): HostVitals {
    const id = hostId(labels);
    let host = this.#byId.get(id);
    if (!host) {
      host = {
        id,
        instance: labels.instance ?? '',
        job: labels.job ?? '',
        labels: { instance: labels.instance ?? '', job: labels.job ?? '' },
        os: '',
        kernel: '',
        bootSeconds: null,
        cores: null,
        memoryTotal: null,
        cpu: null,
        memory: null,
        swap: null,
        disk: null,
        fullestMount: '',
        diskIo: null,
        networkIn: null,
        networkOut: null,
        load1: null,
        seenMs: null,
        intervalMs: ASSUMED_INTERVAL_MS,
        status: 'live',
      };
      this.#byId.set(id, host);
      if (this.phase === 'ready') this.#greet();
    }
    return host;
  }

  /** Learns about hosts that appeared while the page was open; those that come together are asked for once. */
  #greet(): void {
    this.#greeting ??= setTimeout(() => {
      this.#greeting = undefined;
      if (!this.#stopped) void this.#begin();
    }, GREET_MS);
  }

  #fail(error: unknown): void {
    if (this.#stopped || this.phase === 'ready') return;
    this.phase = 'failed';
    this.error = error instanceof Error ? error.message : String(error);
  }

  #publishSoon(): void {
    // The more hosts, the more a page has to do with each; it shows new figures less often, as they come.
    const wait = this.#come.size < VITALS.length ? FIRST_PUBLISH_MS : Math.max(PUBLISH_MS, this.#seenEveryMs / 5);
    this.#publishing ??= setTimeout(() => this.#publish(), wait);
    if (this.hosts.length === 0) this.#publish();
  }

  #publish(): void {
    clearTimeout(this.#publishing);
    this.#publishing = undefined;
    this.#publishedAt = performance.now();
    this.isComplete = this.#factsCame && this.#come.size === VITALS.length;
    const at = now();
    this.hosts = [...this.#byId.values()].map((host) => ({
      ...host,
      status: host.seenMs === null ? 'gone' : liveness(at - host.seenMs, Math.max(host.intervalMs, this.#seenEveryMs)),
    }));
  }
}

/** A late collection may count more idle time than has passed; a share still lies between nothing and all. */
function bounded(vital: Vital, value: number): number | null {
  if (Number.isNaN(value)) return null;
  return vital === 'cpu' || vital === 'memory' ? Math.min(100, Math.max(0, value)) : value;
}

const UNAME_LABELS = ['nodename', 'machine', 'release', 'sysname'] as const;

/** Adds labels to those by which a host can be found; what is as before keeps its object, so that caches hold. */
function describe(host: HostVitals, { __name__: _, ...labels }: Labels): void {
  if (Object.entries(labels).some(([name, value]) => host.labels[name] !== value)) {
    host.labels = { ...host.labels, ...labels };
  }
}

function assignFact(host: HostVitals, fact: Fact, labels: Labels, value: number): void {
  if (fact === 'uname') {
    host.kernel = labels.release ?? '';
    const known = UNAME_LABELS.flatMap((name) => (labels[name] ? [[name, labels[name]] as const] : []));
    describe(host, Object.fromEntries(known));
  } else if (fact === 'os') {
    host.os = osName(labels);
    if (host.os !== '') describe(host, { os: host.os });
  }
  else if (fact === 'boot') host.bootSeconds = value;
  else if (fact === 'cores') host.cores = value;
  else host.memoryTotal = value;
}

/** `Debian GNU/Linux 12 (bookworm)` is too long for a card; name and version say enough. */
export function osName(labels: Labels): string {
  const name = (labels.name ?? labels.id ?? '').replace(/ GNU\/Linux$| Linux$/, '');
  const version = labels.version_id ?? '';
  return [name, version].filter((part) => part !== '').join(' ') || (labels.pretty_name ?? '');
}

/** The fleet that all pages share. */
export const fleet = new Fleet();
