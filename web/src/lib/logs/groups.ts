/** Which values a field has in all lines of a query, and how many lines have each: counted by the server. */

import { logInstant, logRange, nsOf } from '../api/loki';
import type { FieldSource } from './fields';
import { countable, readLogQuery, withParser, withStage } from './logql';
import { escaped } from './marks';
import { planOf, type Buckets } from './volume';

export interface Group {
  /** Empty: of lines that do not have the field. */
  value: string;
  count: number;
}

/** Values that are told at most, the most frequent ones. */
export const MOST_GROUPS = 100;
/** Values whose lines are told over time. */
const MOST_CURVES = 40;

/** The query in which lines have the field. */
function withField(text: string, source: FieldSource): string {
  const parsed = source === 'json' || source === 'logfmt' ? withParser(text, source) : text;
  const read = readLogQuery(parsed);
  return read ? countable(parsed, read) : parsed;
}

export async function fetchGroups(text: string, name: string, source: FieldSource, { fromMs, toMs }: Buckets, signal: AbortSignal): Promise<Group[]> {
  // Windows hold their end and not their beginning, times of lists the other way round.
  const counts = `sum by (${name}) (count_over_time(${withField(text, source)}\n[${Math.round(toMs - fromMs)}ms] offset 1ns))`;
  const series = await logInstant(`topk(${MOST_GROUPS}, ${counts})`, nsOf(toMs), signal);
  return series.map(({ metric, value }) => ({ value: metric[name] ?? '', count: Number(value[1]) })).sort((a, b) => b.count - a.count || (a.value < b.value ? -1 : 1));
}

/** For values of the field, how many lines each whole bucket has. */
export async function fetchCurves(text: string, name: string, source: FieldSource, groups: readonly Group[], buckets: Buckets, signal: AbortSignal): Promise<Map<string, number[]>> {
  const curves = new Map<string, number[]>();
  const { range } = planOf(buckets);
  const values = groups.map(({ value }) => value).filter((value) => value !== '').slice(0, MOST_CURVES);
  if (!range || values.length === 0) return curves;
  const lines = withStage(withField(text, source), { kind: 'label', label: name, op: '=~', value: values.map(escaped).join('|'), isQuoted: true });
  const { data } = await logRange(
    `sum by (${name}) (count_over_time(${lines}\n[${buckets.stepMs}ms] offset 1ns))`,
    { startNs: nsOf(range.firstEndMs), endNs: nsOf(range.lastEndMs), stepMs: buckets.stepMs },
    signal,
  );
  if (data.resultType !== 'matrix') return curves;
  const size = Math.round((range.lastEndMs - range.firstEndMs) / buckets.stepMs) + 1;
  for (const { metric, values: points = [] } of data.result) {
    const counts = new Array<number>(size).fill(0);
    for (const [seconds, count] of points) counts[Math.round((seconds * 1000 - range.firstEndMs) / buckets.stepMs)] = Number(count);
    curves.set(metric[name] ?? '', counts);
  }
  return curves;
}
