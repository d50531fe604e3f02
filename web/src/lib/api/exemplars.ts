/** Single observations that were kept beside their series, most often with the id of a trace. */

import { get, toNumber, type Labels } from './client';

export interface Exemplar {
  /** Labels of the series it belongs to. */
  series: Labels;
  labels: Labels;
  value: number;
  atMs: number;
}

interface WireSeries {
  seriesLabels: Labels;
  exemplars: { labels: Labels; value: string; timestamp: number }[];
}

/** Those of every series that any selector in `expr` matches. */
export async function exemplars(expr: string, range: { fromMs: number; toMs: number }, signal?: AbortSignal): Promise<Exemplar[]> {
  const params = new URLSearchParams({ query: expr, start: String(range.fromMs / 1000), end: String(range.toMs / 1000) });
  const found = await get<WireSeries[] | undefined>(`/api/v1/query_exemplars?${params}`, signal);
  // An expression without selectors has none, and no answer either.
  return (found ?? []).flatMap(({ seriesLabels, exemplars: list }) =>
    list.map(({ labels, value, timestamp }) => ({ series: seriesLabels, labels, value: toNumber(value), atMs: timestamp * 1000 })),
  );
}

/** What names a trace, in the order to look for it: OpenTelemetry's, then the spellings of others. */
const TRACE_LABELS = ['trace_id', 'traceID', 'traceId', 'TraceID'];

export const traceOf = ({ labels }: Exemplar): string | null => {
  const name = TRACE_LABELS.find((label) => labels[label] !== undefined);
  return name === undefined ? null : (labels[name] as string);
};
