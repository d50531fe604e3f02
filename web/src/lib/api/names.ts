/** Names by a part of them, and what may stand at a place in a query. */

import { tenant } from '../tenant.svelte';
import { ApiError, getAnswer, refusal } from './client';

/** Times between which names must have samples. */
export interface Span {
  fromMs: number;
  toMs: number;
}

export interface FoundName {
  /** The name, or the value where values were searched. */
  name: string;
  type?: string;
  help?: string;
  unit?: string;
}

export interface Found {
  names: FoundName[];
  /** Whether there are more than were asked for. */
  hasMore: boolean;
}

export interface Search {
  text?: string;
  /** Selectors; any of them must match. */
  match?: readonly string[];
  span: Span;
  limit: number;
  signal?: AbortSignal;
}

const seconds = (ms: number): string => String(Math.round(ms) / 1000);

/** The lines of an answer: batches of names, and a last one that tells whether there are more. */
export function readLines(text: string): Found {
  const names: FoundName[] = [];
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const read = JSON.parse(line) as { results?: (FoundName | { value: string })[]; status?: string; has_more?: boolean; errorType?: string; error?: string };
    if (read.results) names.push(...read.results.map((one) => ('value' in one ? { name: one.value } : one)));
    else if (read.status === 'success') return { names, hasMore: read.has_more === true };
    else throw new ApiError(read.errorType ?? 'unknown', read.error ?? line);
  }
  throw new ApiError('network', 'the answer ended in the middle');
}

async function search(path: string, { text = '', match = [], span, limit, signal }: Search, more: Record<string, string>): Promise<Found> {
  const form = new URLSearchParams({
    start: seconds(span.fromMs),
    end: seconds(span.toMs),
    limit: String(limit),
    batch_size: '1000',
    case_sensitive: 'false',
    ...more,
  });
  for (const selector of match) form.append('match[]', selector);
  if (text !== '') {
    form.append('search[]', text);
    form.append('sort_by', 'score');
  }
  let response: Response;
  let body: string;
  try {
    response = await fetch(`/api/v1/search/${path}`, { method: 'POST', body: form, headers: tenant.headers(), signal: signal ?? null });
    body = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError('network', error instanceof Error ? error.message : String(error));
  }
  if (response.ok) return readLines(body);
  throw refusal(response, body);
}

/** Metrics, with what is known about them. */
export const searchMetrics = (wanted: Search): Promise<Found> => search('metric_names', wanted, { include_metadata: 'true' });

export const searchLabels = (wanted: Search): Promise<Found> => search('label_names', wanted, {});

export const searchValues = (label: string, wanted: Search): Promise<Found> => search('label_values', wanted, { label });

export type ProposalKind = 'metric' | 'label' | 'value' | 'function' | 'aggregation' | 'keyword' | 'operator' | 'duration' | 'stage' | 'field';

export interface Proposal {
  label: string;
  kind: ProposalKind;
  /** What replaces the text between `from` and `to`. */
  insert: string;
  /** The arguments of a function, the type of a metric. */
  detail?: string;
  help?: string;
  unit?: string;
}

export interface Proposals {
  /** Places in the text, as JavaScript counts. */
  from: number;
  to: number;
  items: Proposal[];
  has_more: boolean;
}

/** What may stand at `pos` of `query`, the best first. */
export async function completions(
  query: string,
  pos: number,
  options: { span: Span; language: string; limit: number; signal?: AbortSignal },
): Promise<Proposals> {
  const { span, language, limit, signal } = options;
  const params = {
    query,
    pos: String(pos),
    start: seconds(span.fromMs),
    end: seconds(span.toMs),
    lang: language,
    limit: String(limit),
  };
  return (await getAnswer<Proposals>('/api/v1/completions', params, signal)).data;
}
