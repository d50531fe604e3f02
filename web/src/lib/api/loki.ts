/** Loki's HTTP API, as the Logs page speaks it. */

import type { WireStream } from '../logs/line';
import { tenant } from '../tenant.svelte';
import { ApiError, isUnauthorized, refusal, type Labels, type RangeSeries } from './client';
import type { Proposals, Span } from './names';

/** Nanoseconds since 1970 as text: a number could not hold them. */
export const nsOf = (ms: number): string => String(BigInt(Math.round(ms)) * 1_000_000n);
export const nextNs = (ns: string): string => String(BigInt(ns) + 1n);

export type LogData =
  | { resultType: 'streams'; result: WireStream[] }
  | { resultType: 'matrix'; result: RangeSeries[] }
  | { resultType: 'vector'; result: { metric: Labels; value: [number, string] }[] }
  | { resultType: 'scalar'; result: [number, string] };

export interface LogAnswer {
  data: LogData;
  /** What asks for the lines that follow; null if there are none. */
  nextCursor: string | null;
  warnings: string[];
  tookMs: number;
  /** Bytes of lines and their metadata that were looked at. */
  bytesRead: number;
}

type Params = Record<string, string | undefined>;

/** Loki's errors are plain text. */
function errorOf(response: Response, body: string): ApiError {
  if (response.status === 401) isUnauthorized();
  if (body.trimStart().startsWith('{')) {
    const told = refusal(response, body);
    if (told.type !== 'unknown') return told;
    const { message } = JSON.parse(body) as { message?: unknown };
    if (typeof message === 'string') return new ApiError('unknown', message);
  }
  const text = body.trim();
  if (text === '' || /^<!doctype|^<html/i.test(text)) return new ApiError('network', `${response.status} ${response.statusText}`.trim());
  return new ApiError(response.status < 500 ? 'bad_data' : 'unavailable', text);
}

async function ask<T>(path: string, params: Params, { signal, headers = {} }: { signal?: AbortSignal | undefined; headers?: Record<string, string> } = {}): Promise<T> {
  const body = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== undefined) body.append(name, value);
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, { method: 'POST', body, headers: { ...headers, ...tenant.headers() }, signal: signal ?? null });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError('network', error instanceof Error ? error.message : String(error));
  }
  if (!response.ok) throw errorOf(response, text);
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new ApiError('network', 'the answer ended in the middle');
  }
}

interface Envelope<T> {
  data?: T;
  warnings?: string[];
}

export interface RangeQuery {
  startNs: string;
  endNs: string;
  limit?: number;
  direction?: 'backward' | 'forward';
  /** Where the page before ended, `first` for the first one. */
  cursor?: string;
  stepMs?: number;
}

/** Lines or series between two times, the second of which is not part of it. */
export async function logRange(query: string, { startNs, endNs, limit, direction, cursor, stepMs }: RangeQuery, signal?: AbortSignal): Promise<LogAnswer> {
  const started = performance.now();
  const params: Params = {
    query,
    start: startNs,
    end: endNs,
    limit: limit === undefined ? undefined : String(limit),
    direction,
    cursor,
    step: stepMs === undefined ? undefined : `${stepMs}ms`,
  };
  const headers = { 'X-Loki-Response-Encoding-Flags': 'categorize-labels' };
  const body = await ask<Envelope<LogData & { nextCursor?: string | null; stats?: { summary?: { totalBytesProcessed?: number } } }>>('/loki/api/v1/query_range', params, { signal, headers });
  return {
    data: body.data as LogData,
    nextCursor: body.data?.nextCursor ?? null,
    warnings: body.warnings ?? [],
    tookMs: performance.now() - started,
    bytesRead: body.data?.stats?.summary?.totalBytesProcessed ?? 0,
  };
}

/** The value of each series at one time. */
export async function logInstant(query: string, timeNs: string, signal?: AbortSignal): Promise<{ metric: Labels; value: [number, string] }[]> {
  const body = await ask<Envelope<LogData>>('/loki/api/v1/query', { query, time: timeNs }, { signal });
  return body.data?.resultType === 'vector' ? body.data.result : [];
}

const times = ({ fromMs, toMs }: Span): Params => ({ start: nsOf(fromMs), end: nsOf(toMs) });

/** Names of labels of streams that match `query`, of all if it is empty. */
export async function logLabels(span: Span, query = '', signal?: AbortSignal): Promise<string[]> {
  const body = await ask<Envelope<string[]>>('/loki/api/v1/labels', { ...times(span), query: query === '' ? undefined : query }, { signal });
  return (body.data ?? []).filter((name) => !name.startsWith('__'));
}

export async function logLabelValues(label: string, span: Span, query = '', signal?: AbortSignal): Promise<string[]> {
  const path = `/loki/api/v1/label/${encodeURIComponent(label)}/values`;
  return (await ask<Envelope<string[]>>(path, { ...times(span), query: query === '' ? undefined : query }, { signal })).data ?? [];
}

export interface FoundPattern {
  pattern: string;
  level?: string;
  /** Seconds since 1970 and how many lines. */
  samples: [number, number][];
}

export async function logPatterns(query: string, span: Span, stepMs: number, signal?: AbortSignal): Promise<FoundPattern[]> {
  const params = { ...times(span), query, step: `${stepMs}ms` };
  return (await ask<Envelope<FoundPattern[]>>('/loki/api/v1/patterns', params, { signal })).data ?? [];
}

/** The query as it is set by the server; fails with the parser's error if it is none. */
export const formatLogQuery = async (query: string, signal?: AbortSignal): Promise<string> =>
  (await ask<Envelope<string>>('/loki/api/v1/format_query', { query }, { signal })).data ?? query;

/** What may stand at `pos` of `query`, the best first. */
export async function logCompletions(
  query: string,
  pos: number,
  { span, language, limit, signal }: { span: Span; language: string; limit: number; signal?: AbortSignal },
): Promise<Proposals> {
  const params = { ...times(span), query, pos: String(pos), lang: language, limit: String(limit) };
  return (await ask<Envelope<Proposals>>('/loki/api/v1/completions', params, { signal })).data as Proposals;
}

/** Where the live tail is; a WebSocket cannot bear headers, so what they would say stands in the address. */
export function tailUrl(query: string, startNs: string, limit: number): string {
  const url = new URL('/loki/api/v1/tail', location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.search = String(new URLSearchParams({ query, start: startNs, limit: String(limit), encoding_flags: 'categorize-labels', ...(tenant.chosen === '' ? {} : { tenant: tenant.chosen }) }));
  return url.href;
}
