/**
 * A source is one metric and how its series become lines. It is stated once and read twice: as PromQL
 * for the past, and as a fold over raw samples for the present, so that both halves of a chart agree.
 */

import { quote, type Labels } from '../api/client';
import { formatDuration } from '../time/range';
import { Deriver, rateWindow, type Kind } from '../live/derive';

export interface Matcher {
  label: string;
  op: '=' | '!=' | '=~' | '!~';
  value: string;
}

export interface Source {
  /** Prefix of its lines' keys, unique within a chart. */
  id: string;
  metric: string;
  where?: readonly Matcher[];
  kind: Kind;
  /** The label that tells its lines apart; null for a single line. */
  by: string | null;
  /**
   * The labels that tell the series of one host apart. Series alike in them are copies of each other, such as
   * those of two Prometheus that collect the same host: a copy is averaged with the others, never added to them.
   */
  own: readonly string[];
  /** Factor to the chart's unit, 1 if absent. */
  scale?: number;
}

export interface Host {
  instance: string;
  job: string;
}

export const hostMatchers = (host: Host): Matcher[] => [
  { label: 'instance', op: '=', value: host.instance },
  { label: 'job', op: '=', value: host.job },
];

export const selector = (metric: string, matchers: readonly Matcher[]): string =>
  `${metric}{${matchers.map((m) => `${m.label}${m.op}${quote(m.value)}`).join(',')}}`;

/** Collection interval of the data and distance of the points drawn, in milliseconds. */
export interface Resolution {
  intervalMs: number;
  stepMs: number;
}

/** The key of the line that a series belongs to. */
export const lineKey = (source: Source, labels: Labels): string =>
  source.by === null ? source.id : `${source.id}:${labels[source.by] ?? ''}`;

/** The range query that yields the source's lines for the past. */
export function historyQuery(source: Source, host: Host, { intervalMs, stepMs }: Resolution): string {
  const series = selector(source.metric, [...hostMatchers(host), ...(source.where ?? [])]);
  // At full resolution irate gives exactly what the live fold computes from neighbouring samples; on a
  // coarser step the windows tile the axis, so that no burst between two points is lost.
  // A bare selector repeats a silent gauge's last value for five minutes, where the live half has a hole.
  const value =
    source.kind === 'gauge'
      ? `last_over_time(${series}[${formatDuration(gapAfter({ intervalMs, stepMs }))}])`
      : stepMs <= intervalMs
        ? `irate(${series}[${formatDuration(rateWindow(intervalMs))}])`
        : `rate(${series}[${formatDuration(Math.max(stepMs + intervalMs, rateWindow(intervalMs)))}])`;
  const scaled = source.scale === undefined ? '' : ` * ${source.scale}`;
  const by = (labels: readonly string[]): string => (labels.length === 0 ? '' : ` by (${labels.join(', ')}) `);
  const once = `avg${by(source.own)}(${value})`;
  const isLine = source.own.every((label) => label === source.by);
  return `${isLine ? once : `sum${by(source.by === null ? [] : [source.by])}(${once})`}${scaled}`;
}

function compile(matcher: Matcher): (labels: Labels) => boolean {
  const { label, op, value } = matcher;
  if (op === '=') return (labels) => (labels[label] ?? '') === value;
  if (op === '!=') return (labels) => (labels[label] ?? '') !== value;
  const pattern = new RegExp(`^(?:${value})$`, 's');
  return op === '=~' ? (labels) => pattern.test(labels[label] ?? '') : (labels) => !pattern.test(labels[label] ?? '');
}

interface Member {
  key: string;
  /** Itself and its copies. */
  copies: Member[];
  deriver: Deriver;
  atMs: number;
  value: number | null;
}

/** Folds the raw samples of a source's series into its lines' points. */
export class Fold {
  #matches: ((labels: Labels) => boolean)[];
  #members = new Map<number, Member>();
  /** Per line its members, copies together. */
  #lines = new Map<string, Map<string, Member[]>>();

  constructor(
    readonly source: Source,
    readonly resolution: Resolution,
  ) {
    this.#matches = (source.where ?? []).map(compile);
  }

  /** Takes in a series under the number its samples will bear; yields whether it belongs here. */
  add(number: number, labels: Labels): boolean {
    if (labels.__name__ !== this.source.metric || !this.#matches.every((ok) => ok(labels))) return false;
    const { intervalMs, stepMs } = this.resolution;
    const key = lineKey(this.source, labels);
    const line = this.#lines.get(key) ?? new Map<string, Member[]>();
    const own = this.source.own.map((label) => labels[label] ?? '').join('\u0000');
    const copies = line.get(own) ?? [];
    const member: Member = {
      key,
      copies,
      deriver: new Deriver(this.source.kind, Math.max(stepMs, intervalMs), gapAfter(this.resolution)),
      atMs: NaN,
      value: null,
    };
    copies.push(member);
    this.#members.set(number, member);
    this.#lines.set(key, line.set(own, copies));
    return true;
  }

  /** Takes a sample and yields the line's point at that time so far, if the sample made or changed one. */
  push(number: number, atMs: number, value: number | null): { key: string; value: number | null } | null {
    const member = this.#members.get(number);
    const derived = member?.deriver.push(atMs, value);
    if (!member || derived === undefined) return null;
    member.atMs = atMs;
    member.value = derived.value;
    // The line goes on where a copy of what ended does.
    if (derived.value === null && this.#hasLiveCopy(member)) return null;
    return { key: member.key, value: this.#combined(member.key, atMs) };
  }

  #hasLiveCopy(member: Member): boolean {
    const since = member.atMs - gapAfter(this.resolution);
    return member.copies.some((copy) => copy !== member && copy.value !== null && copy.atMs >= since);
  }

  /** Only members with a point at exactly this time count: one collection pass stamps all alike. */
  #combined(key: string, atMs: number): number | null {
    let total = 0;
    let isThere = false;
    for (const copies of this.#lines.get(key)?.values() ?? []) {
      let sum = 0;
      let count = 0;
      for (const copy of copies) {
        if (copy.atMs !== atMs || copy.value === null) continue;
        sum += copy.value;
        count++;
      }
      if (count === 0) continue;
      total += sum / count;
      isThere = true;
    }
    return isThere ? total * (this.source.scale ?? 1) : null;
  }
}

/** Silence longer than this is shown as a gap. */
export const gapAfter = ({ intervalMs, stepMs }: Resolution): number => Math.max(3.5 * intervalMs, 2.5 * stepMs);
