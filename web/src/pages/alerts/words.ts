import type { Interval } from '../../lib/api/alerting';
import { daysOf, WEEKDAYS } from '../../lib/alerts/silence';
import { duration } from '../../lib/format/time';
import { i18n, t } from '../../lib/i18n/index.svelte';

function daysInWords(weekdays: readonly string[]): string {
  const days = daysOf(weekdays);
  if (days === null) return weekdays.join(', ');
  const pattern = days.map(Number).join('');
  if (pattern === '1111111') return t('silence.daily');
  if (pattern === '1111100') return t('silence.workdays');
  if (pattern === '0000011') return t('silence.weekends');
  return WEEKDAYS.filter((_, day) => days[day]).map((weekday) => t(`silence.day.${weekday}`)).join(i18n.language === 'zh' ? '、' : ', ');
}

/** When a silence holds, as one would say it. */
export function inWords({ times = [], weekdays = [], days_of_month: dates = [], months = [], years = [], location }: Interval): string {
  const [first, second] = times;
  const isNight = times.length === 2 && first?.end_time === '24:00' && second?.start_time === '00:00';
  const spans = isNight ? [`${first.start_time}–${second.end_time}`] : times.map(({ start_time: start, end_time: end }) => `${start}–${end}`);
  const named = (name: string, values: readonly string[]): string[] => (values.length === 0 ? [] : [`${name} ${values.map((value) => value.replace(':', '–')).join(', ')}`]);
  return [
    daysInWords(weekdays),
    ...spans,
    ...named(t('silence.dates'), dates),
    ...named(t('silence.months'), months),
    ...named(t('silence.years'), years),
    location ?? 'UTC',
  ].join(' · ');
}

/** A span in whole seconds: pages look no more often, and what is shorter would only flicker. */
export const seconds = (ms: number): string => duration(Math.max(1, Math.floor(ms / 1000)));

/** How long ago something was. */
export const since = (ms: number): string => t('targets.ago', { time: seconds(ms) });
