/** Prometheus' HTTP API, as every backend of this console speaks it. */

import { tenant } from '../tenant.svelte';
import { observe } from '../time/clock';

export type Labels = Record<string, string>;
/** Unix seconds and the value as text, exactly as on the wire. */
export type Point = [number, string];

export interface InstantSeries {
  metric: Labels;
  value?: Point;
  histogram?: unknown;
}

export interface RangeSeries {
  metric: Labels;
  values?: Point[];
  histograms?: unknown[];
}

export type QueryData =
  | { resultType: 'vector'; result: InstantSeries[] }
  | { resultType: 'matrix'; result: RangeSeries[] }
  | { resultType: 'scalar' | 'string'; result: Point };

export interface Answer<T> {
  data: T;
  warnings: string[];
  infos: string[];
  /** From sending the request to having parsed the answer, in milliseconds. */
  tookMs: number;
}

export interface MetricMetadata {
  type: string;
  help: string;
  unit: string;
}

/** An answer that is not a success: the API's own error, or none at all (`type` is then `network`). */
export class ApiError extends Error {
  constructor(
    readonly type: string,
    message: string,
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

/** Where in the query an error lies: 1-based line and column, as Prometheus or Loki words it. */
export function errorPosition(message: string): { line: number; column: number } | null {
  const found = /(?:^|[\s:])(\d+):(\d+): parse error/.exec(message) ?? /parse error at line ([1-9]\d*), col (\d+): /.exec(message);
  return found ? { line: Number(found[1]), column: Number(found[2]) } : null;
}

/** What is wrong with a query, without the place, for where that is shown already. */
export const withoutPosition = (message: string): string => message.replace(/^.*?(?:\d+:\d+: parse error|parse error at line [1-9]\d*, col \d+): /, '');

interface Envelope {
  status?: unknown;
  data?: unknown;
  error?: unknown;
  errorType?: unknown;
  warnings?: unknown;
  infos?: unknown;
}

type Params = Record<string, string | readonly string[] | undefined>;

/** Told when the server does not know who is asking; see `session`. */
let unauthorized: () => void = () => {};
export function whenUnauthorized(handler: () => void): void {
  unauthorized = handler;
}

/** For answers that say by their status alone that nobody knows who asks. */
export const isUnauthorized = (): void => unauthorized();

/** The error that a refused request tells, for answers that are no JSON as a whole. */
export function refusal(response: Response, body: string): ApiError {
  try {
    const told = JSON.parse(body) as Envelope;
    const type = String(told.errorType ?? 'unknown');
    if (type === 'unauthorized') unauthorized();
    return new ApiError(type, String(told.error ?? `${response.status} ${response.statusText}`));
  } catch {
    return new ApiError('network', `${response.status} ${response.statusText}`.trim());
  }
}

const strings = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);

/** Sends a request; yields its answer as JSON unless that tells an error. */
async function fetchJson(path: string, init: RequestInit): Promise<Envelope> {
  let response: Response;
  let body: Envelope;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError('network', error instanceof Error ? error.message : String(error));
  }
  if (response.status === 204) return { status: 'success' };
  try {
    body = (await response.json()) as Envelope;
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError('network', `${response.status} ${response.statusText}`.trim());
  }
  // VictoriaMetrics' answers say "ok".
  if (body.status !== 'success' && body.status !== 'ok') {
    const type = String(body.errorType ?? 'unknown');
    if (type === 'unauthorized') unauthorized();
    throw new ApiError(type, String(body.error ?? `${response.status} ${response.statusText}`));
  }
  return body;
}

/** The same request, for the tenant that is chosen. */
const narrowed = (init: RequestInit): RequestInit => ({ ...init, headers: { ...(init.headers as Record<string, string>), ...tenant.headers() } });

/** Sends a request and takes the envelope off its answer. */
async function exchange<T>(path: string, init: RequestInit): Promise<Answer<T>> {
  const started = performance.now();
  const body = await fetchJson(path, narrowed(init));
  return {
    data: body.data as T,
    warnings: strings(body.warnings),
    infos: strings(body.infos),
    tookMs: performance.now() - started,
  };
}

/** A plain read of an answer that has its fields beside the status. */
export const getWhole = async <T>(path: string, signal?: AbortSignal): Promise<T> =>
  (await fetchJson(path, narrowed({ signal: signal ?? null }))) as T;

/**
 * An answer that is its data, without an envelope, as Alertmanager's API has them. Its refusals are a text of
 * JSON, or an object with a message; those of rulers are plain texts.
 */
export async function bare<T>(path: string, init: RequestInit = {}): Promise<T> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, narrowed(init));
    text = await response.text();
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError('network', error instanceof Error ? error.message : String(error));
  }
  const isJson = response.headers.get('content-type')?.startsWith('application/json') === true;
  let told: unknown;
  try {
    told = isJson ? JSON.parse(text) : undefined;
  } catch {
    throw new ApiError('network', `${response.status} ${response.statusText}`.trim());
  }
  if (response.ok) return told as T;
  if (response.status === 401) unauthorized();
  const { message, error } = (typeof told === 'object' && told !== null ? told : {}) as { message?: unknown; error?: unknown };
  const plain = response.headers.get('content-type')?.startsWith('text/plain') === true ? text.trim() : '';
  const why = typeof told === 'string' ? told : (message ?? error ?? (plain || `${response.status} ${response.statusText}`));
  const types: Record<number, string> = { 401: 'unauthorized', 403: 'forbidden', 404: 'not_found', 503: 'unavailable' };
  throw new ApiError(types[response.status] ?? 'bad_data', String(why));
}

/** An answer that is a text, with refusals as {@link bare} knows them. */
export async function bareText(path: string): Promise<string> {
  const response = await fetch(path, narrowed({}));
  if (response.ok) return response.text();
  if (response.status === 401) unauthorized();
  throw new ApiError('bad_data', (await response.text()).trim() || `${response.status} ${response.statusText}`);
}

/** A plain read that is not of the tenant that is chosen, but of all. */
export const getAll = async <T>(path: string, signal?: AbortSignal): Promise<T> =>
  (await fetchJson(path, { signal: signal ?? null })).data as T;

function request<T>(path: string, params: Params, method: 'GET' | 'POST', signal?: AbortSignal): Promise<Answer<T>> {
  const form = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (typeof value === 'string') form.append(name, value);
    else for (const item of value ?? []) form.append(name, item);
  }
  const text = form.toString();
  return method === 'POST'
    ? exchange(path, { method, body: form, signal: signal ?? null })
    : exchange(text === '' ? path : `${path}?${text}`, { signal: signal ?? null });
}

/** A read with its particulars in a form, which queries may be too long for an address for. */
export const getAnswer = <T>(path: string, params: Params, signal?: AbortSignal): Promise<Answer<T>> =>
  request<T>(path, params, 'POST', signal);

/** A plain read. */
export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await request<T>(path, {}, 'GET', signal)).data;
}

/** A change, with its particulars as JSON. */
export async function send<T>(method: 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { 'Content-Type': 'application/json' };
  }
  return (await exchange<T>(path, init)).data;
}

const seconds = (ms: number): string => String(Math.round(ms) / 1000);

/** Evaluates `expr` at `atMs`, or at the server's now. */
export async function query(expr: string, options: { atMs?: number; signal?: AbortSignal } = {}): Promise<Answer<QueryData>> {
  const sent = Date.now();
  const time = options.atMs === undefined ? undefined : seconds(options.atMs);
  const answer = await request<QueryData>('/api/v1/query', { query: expr, time }, 'POST', options.signal);
  if (options.atMs === undefined && answer.data.resultType === 'vector') {
    const stamp = answer.data.result[0]?.value?.[0];
    if (stamp !== undefined) observe(stamp * 1000, sent, Date.now());
  }
  return answer;
}

/** Like {@link query} for expressions known to yield an instant vector. */
export async function queryVector(expr: string, options?: { atMs?: number; signal?: AbortSignal }): Promise<InstantSeries[]> {
  const { data } = await query(expr, options);
  return data.resultType === 'vector' ? data.result : [];
}

export function queryRange(
  expr: string,
  range: { fromMs: number; toMs: number; stepMs: number },
  signal?: AbortSignal,
): Promise<Answer<QueryData>> {
  return request(
    '/api/v1/query_range',
    { query: expr, start: seconds(range.fromMs), end: seconds(range.toMs), step: seconds(range.stepMs) },
    'POST',
    signal,
  );
}

export async function labelValues(
  label: string,
  options: { match?: string; fromMs?: number; toMs?: number; limit?: number; signal?: AbortSignal } = {},
): Promise<string[]> {
  const { match, fromMs, toMs, limit, signal } = options;
  const answer = await request<string[]>(
    `/api/v1/label/${encodeURIComponent(label)}/values`,
    {
      'match[]': match,
      start: fromMs === undefined ? undefined : seconds(fromMs),
      end: toMs === undefined ? undefined : seconds(toMs),
      limit: limit === undefined ? undefined : String(limit),
    },
    'GET',
    signal,
  );
  return answer.data;
}

/** Names of the labels that series which match have. */
export async function labelNames(options: { match?: string; signal?: AbortSignal } = {}): Promise<string[]> {
  return (await request<string[]>('/api/v1/labels', { 'match[]': options.match }, 'GET', options.signal)).data;
}

/** The label sets of all series that match and have samples between the two times. */
export async function series(match: string, fromMs: number, toMs: number, signal?: AbortSignal): Promise<Labels[]> {
  const params = { 'match[]': match, start: seconds(fromMs), end: seconds(toMs) };
  return (await request<Labels[]>('/api/v1/series', params, 'GET', signal)).data;
}

export async function metadata(signal?: AbortSignal): Promise<Record<string, MetricMetadata[]>> {
  return (await request<Record<string, MetricMetadata[]>>('/api/v1/metadata', {}, 'GET', signal)).data;
}

export async function formatQuery(expr: string, signal?: AbortSignal): Promise<string> {
  return (await request<string>('/api/v1/format_query', { query: expr }, 'POST', signal)).data;
}

/** Fails with the parser's error if `expr` is no PromQL. */
export async function parseQuery(expr: string, signal?: AbortSignal): Promise<void> {
  await request<unknown>('/api/v1/parse_query', { query: expr }, 'POST', signal);
}

/** The number a wire value stands for (`NaN`, `+Inf` and `-Inf` included). */
export function toNumber(text: string): number {
  if (text === '+Inf' || text === 'Inf') return Infinity;
  if (text === '-Inf') return -Infinity;
  return Number(text);
}

/** A series' name as PromQL writes it. */
export function seriesName(labels: Labels): string {
  const { __name__: name = '', ...rest } = labels;
  const pairs = Object.entries(rest).map(([label, value]) => `${label}=${quote(value)}`);
  return pairs.length === 0 && name !== '' ? name : `${name}{${pairs.join(', ')}}`;
}

/** A PromQL string literal for any text. */
export const quote = (text: string): string =>
  `"${text.replace(/[\\"]/g, (c) => `\\${c}`).replace(/\n/g, '\\n')}"`;
