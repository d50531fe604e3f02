/** How many alerts need somebody, for the sign in the header, and word of new ones if somebody wants it. */

import { alerting } from '../api/alerting';
import { ApiError, queryVector, toNumber } from '../api/client';
import { session } from '../session.svelte';
import { load, save } from '../storage';
import { now } from '../time/clock';
import { countNames } from './model';

const EVERY_MS = 15_000;
/** Long lists are asked for less often, so that asking is never most of what is done. */
const REST_PER_ASKING = 40;
const MOST_NAMED = 5;
/** What always fires, so that it is noticed when nothing does, has no severity and needs nobody. */
const NEEDED = 'severity!="none"';
const FIRING = `count by (alertname) (ALERTS{alertstate="firing",${NEEDED}})`;

const isBoolean = (value: unknown): value is boolean => typeof value === 'boolean';
const isSupported = typeof Notification !== 'undefined';

let count = $state(0);
let wanted = $state(load('alerts.notify', isBoolean) ?? false);
let permission = $state<NotificationPermission>(isSupported ? Notification.permission : 'denied');
/** How many of each name there were; null before the first look, of which nothing is new. */
let known: Map<string, number> | null = null;

export function newNames(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): string[] {
  return [...after].filter(([name, n]) => n > (before.get(name) ?? 0)).map(([name]) => name);
}

/** Of all alerts, whoever made them. A Prometheus in the place of the server knows only those of its rules. */
async function firingNames(): Promise<Map<string, number>> {
  try {
    return countNames(await alerting.activeGroups(NEEDED));
  } catch (error) {
    if (!(error instanceof ApiError && error.type === 'not_found')) throw error;
    const series = await queryVector(FIRING);
    return new Map(series.map(({ metric, value }) => [metric['alertname'] ?? '', toNumber(value?.[1] ?? '0')]));
  }
}

function tell(names: readonly string[]): void {
  const shown = names.slice(0, MOST_NAMED).join(', ');
  const told = new Notification(names.length > MOST_NAMED ? `${shown} …` : shown, { body: 'Watchfire', tag: 'watchfire-alerts', icon: '/favicon.svg' });
  told.onclick = () => {
    focus();
    told.close();
  };
}

async function look(): Promise<void> {
  const after = await firingNames();
  count = [...after.values()].reduce((sum, n) => sum + n, 0);
  const names = known === null ? [] : newNames(known, after);
  known = after;
  if (wanted && permission === 'granted' && names.length > 0) tell(names);
}

export const firing = {
  get count(): number {
    return count;
  },
  /** Whether new alerts are told by the browser. */
  get tells(): boolean {
    return wanted && permission === 'granted';
  },
  get canTell(): boolean {
    return isSupported && permission !== 'denied';
  },
  /** Turns word of new alerts on, asking for leave if need be, or off. */
  async toggle(): Promise<void> {
    if (!isSupported) return;
    wanted = !firing.tells;
    if (wanted) permission = await Notification.requestPermission();
    save('alerts.notify', firing.tells);
  },
  /** Looks now and then until the returned function is called; in a page out of sight only for who wants word. */
  watch(): () => void {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let lookedAt = 0;
    const next = async (): Promise<void> => {
      clearTimeout(timer);
      const started = performance.now();
      if (session.may('read') && (!document.hidden || firing.tells)) {
        lookedAt = now();
        // Without an answer the last number stays; the connection's own sign tells that something is away.
        await look().catch(() => undefined);
      }
      timer = setTimeout(() => void next(), Math.max(EVERY_MS, REST_PER_ASKING * (performance.now() - started)));
    };
    const seen = () => {
      if (!document.hidden && now() - lookedAt > EVERY_MS) void next();
    };
    document.addEventListener('visibilitychange', seen);
    void next();
    return () => {
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', seen);
    };
  },
};
