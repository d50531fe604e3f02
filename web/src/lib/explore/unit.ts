/** The unit of what a query yields, as far as the name of its metric and what is done to it tell. */

import type { Unit } from '../format/units';

const KEYWORDS = new Set(
  'and or unless atan2 by without on ignoring group_left group_right bool offset anchored smoothed fill fill_left fill_right inf nan'.split(' '),
);
/** What keeps the unit of its samples. */
const KEEPING = new Set(
  ('sum avg min max topk bottomk quantile limitk limit_ratio stddev abs ceil floor round clamp clamp_min clamp_max sort sort_desc sort_by_label sort_by_label_desc ' +
    'label_replace label_join avg_over_time min_over_time max_over_time sum_over_time last_over_time first_over_time quantile_over_time stddev_over_time mad_over_time ' +
    'delta idelta increase predict_linear scalar vector histogram_quantile histogram_quantiles histogram_avg histogram_sum double_exponential_smoothing').split(' '),
);
const RATES = new Set(['rate', 'irate', 'deriv']);

interface Words {
  /** Names of metrics, each once. */
  metrics: string[];
  /** Functions and aggregations. */
  calls: string[];
  /** Whether values are computed with one another, or with numbers. */
  computes: boolean;
}

function wordsOf(expr: string): Words {
  const bare = expr
    .replace(/"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`/g, '""')
    .replace(/#.*/g, ' ')
    .replace(/\{[^}]*\}|\[[^\]]*\]/g, ' ')
    .replace(/\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/gi, ' ')
    .replace(/\boffset\s+-?[\w.]+|@\s*(?:-?[\d.]+|(?:start|end)\s*\(\s*\))/gi, ' ');
  const metrics = new Set<string>();
  const calls: string[] = [];
  for (const [, name = '', call] of bare.matchAll(/(?<![\w:.])([A-Za-z_:][\w:]*)\s*(\()?/g)) {
    const lower = name.toLowerCase();
    if (call) calls.push(lower);
    else if (!KEYWORDS.has(lower)) metrics.add(name);
  }
  return { metrics: [...metrics], calls, computes: /[-+*/%^]|\batan2\b|\bbool\b/i.test(bare.replace(/[(,]\s*-\s*\d/g, '(')) };
}

/** What a metric of this name counts in, without the suffixes that its series bear. */
function baseUnit(metric: string): Unit {
  const family = metric.replace(/_(?:total|bucket|sum)$/, '');
  if (family.endsWith('_bytes')) return 'bytes';
  return family.endsWith('_seconds') ? 'seconds' : 'number';
}

/** The unit of the values of a query; a plain number where nothing is certain. */
export function unitOf(expr: string): Unit {
  const { metrics, calls, computes } = wordsOf(expr);
  const [metric] = metrics;
  if (metric === undefined || metrics.length > 1 || computes) return 'number';
  const isQuantile = calls.some((name) => name.startsWith('histogram_quantile'));
  if (/_count$/.test(metric) || (/_bucket$/.test(metric) && !isQuantile)) return 'number';
  const others = calls.filter((name) => !KEEPING.has(name));
  const unit = baseUnit(metric);
  // The rates of buckets are observations; a quantile of them is a value again.
  if (others.length === 0 || (isQuantile && others.every((name) => RATES.has(name)))) return unit;
  return unit === 'bytes' && others.length === 1 && RATES.has(others[0] ?? '') ? 'bytesPerSecond' : 'number';
}

/** The unit of the buckets of the histograms in a query. */
export function boundsUnitOf(expr: string): Unit {
  const { metrics } = wordsOf(expr);
  return metrics.length === 1 ? baseUnit(metrics[0] ?? '') : 'number';
}

/** The unit that all agree on. */
export function common(units: readonly Unit[]): Unit {
  const [first = 'number'] = units;
  return units.every((unit) => unit === first) ? first : 'number';
}
