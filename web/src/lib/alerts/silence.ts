/** Silences as a form has them and as words tell them. */

import type { Interval, Silence, SilenceDraft, SilenceMatcher } from '../api/alerting';
import type { Labels } from '../api/client';
import { HOUR, MINUTE, DAY } from '../time/range';

export const DURATIONS: readonly number[] = [30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, DAY, 3 * DAY, 7 * DAY];
export const WEEKDAYS = ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'] as const;

/** What a form begins with. */
export interface SilenceSeed {
  id?: string;
  matchers: SilenceMatcher[];
  /** Null: from now on. */
  startsMs: number | null;
  /** Null: a usual time after the start. */
  endsMs: number | null;
  createdBy: string;
  comment: string;
  annotations?: Labels;
  intervals: Interval[];
}

export const equalTo = (name: string, value: string): SilenceMatcher => ({ name, value, isRegex: false, isEqual: true });

/** A row of the form in which nothing stands yet. */
export const BLANK: SilenceMatcher = { name: '', value: '', isRegex: false, isEqual: true };

export const seedFor = (labels: Labels): SilenceSeed => ({
  matchers: Object.entries(labels).map(([name, value]) => equalTo(name, value)),
  startsMs: null,
  endsMs: null,
  createdBy: '',
  comment: '',
  intervals: [],
});

/** A silence to be changed; one that has ended is made anew from now on. */
export function seedOf(silence: Silence): SilenceSeed {
  const { matchers, createdBy, comment, annotations, intervals = [] } = silence;
  const copied: SilenceSeed = { matchers: matchers.map((one) => ({ ...one })), startsMs: null, endsMs: null, createdBy, comment, intervals };
  if (annotations !== undefined) copied.annotations = annotations;
  if (silence.status.state === 'expired') return copied;
  return { ...copied, id: silence.id, startsMs: Date.parse(silence.startsAt), endsMs: Date.parse(silence.endsAt) };
}

/** The silence with another end and all else as it is. */
export function ending({ id, matchers, startsAt, createdBy, comment, annotations, intervals }: Silence, endsMs: number): SilenceDraft {
  const draft: SilenceDraft = { id, matchers, startsAt, endsAt: new Date(endsMs).toISOString(), createdBy, comment };
  if (annotations !== undefined) draft.annotations = annotations;
  if (intervals !== undefined) draft.intervals = intervals;
  return draft;
}

export const opOf = ({ isRegex, isEqual }: SilenceMatcher): string => (isRegex ? (isEqual ? '=~' : '!~') : isEqual ? '=' : '!=');

export const matcherText = (matcher: SilenceMatcher): string => `${matcher.name}${opOf(matcher)}${JSON.stringify(matcher.value)}`;

/** What is wrong with the matchers of a form: by row, and of all of them together. Rows in which nothing stands count for nothing. */
export function faultsOf(matchers: readonly SilenceMatcher[]): { rows: ('label' | null)[]; whole: 'matcher' | 'value' | null } {
  const rows = matchers.map(({ name, value }) => (name === '' && value !== '' ? 'label' : null));
  const named = matchers.filter(({ name }) => name !== '');
  // The server refuses what matches alerts that have none of the labels: it would silence everything.
  const matchesNothing = ({ value, isRegex, isEqual }: SilenceMatcher): boolean => (isRegex ? isEmptyMatch(value) === isEqual : (value === '') === isEqual);
  if (named.length === 0) return { rows, whole: rows.includes('label') ? null : 'matcher' };
  return { rows, whole: named.every(matchesNothing) ? 'value' : null };
}

/** Whether an expression matches an empty text; one that cannot be read here is the server's to judge. */
function isEmptyMatch(expression: string): boolean {
  try {
    return new RegExp(`^(?:${expression})$`).test('');
  } catch {
    return false;
  }
}

/** What a form has of an interval: days of the week and a span of the day, in a zone. */
export interface Recurrence {
  /** From Monday on; none is all. */
  days: boolean[];
  /** `HH:MM`; both empty is the whole day. */
  start: string;
  end: string;
  location: string;
}

const CLOCK = /^(?:[01]\d|2[0-4]):[0-5]\d$/;

/** Whether a span of the day can be read: two times, or none at all. */
export const isSpan = ({ start, end }: Pick<Recurrence, 'start' | 'end'>): boolean =>
  (start === '' && end === '') || (CLOCK.test(start) && CLOCK.test(end) && start !== end);

/** The days as ranges, as the API has them: `monday:friday`, `sunday`. */
function ranges(days: readonly boolean[]): string[] {
  const found: string[] = [];
  for (let from = 0; from < days.length; from++) {
    if (!days[from]) continue;
    let to = from;
    while (days[to + 1]) to++;
    found.push(from === to ? (WEEKDAYS[from] as string) : `${WEEKDAYS[from]}:${WEEKDAYS[to]}`);
    from = to;
  }
  return found;
}

/** The interval that a form means. A span over midnight is two of one day each: the API knows no other. */
export function intervalOf({ days, start, end, location }: Recurrence): Interval {
  const interval: Interval = {};
  const weekdays = days.every((chosen) => chosen) ? [] : ranges(days);
  if (weekdays.length > 0) interval.weekdays = weekdays;
  if (start !== '' && end !== '') {
    interval.times =
      start < end
        ? [{ start_time: start, end_time: end }]
        : [{ start_time: start, end_time: '24:00' }, ...(end === '00:00' ? [] : [{ start_time: '00:00', end_time: end }])];
  }
  if (location !== '' && location !== 'UTC') interval.location = location;
  return interval;
}

/** Whether a form can show an interval; others stay as they are. */
export function recurrenceOf(interval: Interval): Recurrence | null {
  const { times = [], weekdays = [], days_of_month = [], months = [], years = [], location = 'UTC' } = interval;
  if (days_of_month.length + months.length + years.length > 0 || times.length > 2) return null;
  const [first, second] = times;
  const isOverMidnight = first?.end_time === '24:00' && second?.start_time === '00:00';
  if (second !== undefined && !isOverMidnight) return null;
  const days = daysOf(weekdays);
  if (days === null) return null;
  return { days, start: first?.start_time ?? '', end: second?.end_time ?? first?.end_time ?? '', location };
}

/** Which days of the week ranges name, or null if one cannot be read. */
export function daysOf(weekdays: readonly string[]): boolean[] | null {
  const days = WEEKDAYS.map(() => weekdays.length === 0);
  for (const range of weekdays) {
    const [from, to = from] = range.toLowerCase().split(':').map((day) => WEEKDAYS.indexOf(day as (typeof WEEKDAYS)[number]));
    if (from === undefined || to === undefined || from < 0 || to < 0) return null;
    // Alertmanager's week begins on Sunday, so a range from Sunday goes on with Monday.
    for (let day = from, i = 0; i < 7; i++, day = (day + 1) % 7) {
      days[day] = true;
      if (day === to) break;
    }
  }
  return days;
}

/** The zone of this browser by its name. */
export const ownZone = (): string => Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC';
