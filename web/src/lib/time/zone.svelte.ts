/** In which zone times are shown and read: the browser's, or UTC, in which many machines write theirs. */

import { load, save } from '../storage';

export type Zone = 'local' | 'UTC';

const isZone = (value: unknown): value is Zone => value === 'local' || value === 'UTC';

let chosen = $state<Zone>(load('zone', isZone) ?? 'local');

export const zone = {
  get chosen(): Zone {
    return chosen;
  },
  choose(next: Zone): void {
    chosen = next;
    save('zone', next);
  },
};

/** Where the browser is, such as `Asia/Shanghai`. */
export const localName = (): string => Intl.DateTimeFormat().resolvedOptions().timeZone;

/** Minutes by which clocks of the zone are ahead of UTC at a time. */
export const offsetAt = (ms: number): number => (chosen === 'UTC' ? 0 : -new Date(ms).getTimezoneOffset());

/** A time whose UTC fields are what a clock of the zone shows. */
export const asShown = (ms: number): Date => new Date(ms + offsetAt(ms) * 60_000);
