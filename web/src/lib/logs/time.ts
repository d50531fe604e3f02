/** Times of lines, in the zone that was chosen. */

import { clockTime, day } from '../format/time';
import { msOf } from './line';

const fraction = (ms: number): string => String(Math.floor(ms) % 1000).padStart(3, '0');

/** To the millisecond; with the day where lines of several days stand together. */
export const shortTime = (ms: number, withDay: boolean): string => `${withDay ? `${day(ms).slice(5)} ` : ''}${clockTime(ms)}.${fraction(ms)}`;

/** To the nanosecond. */
export function fullTime(ns: string): string {
  const ms = Math.floor(msOf(ns));
  return `${day(ms)} ${clockTime(ms)}.${ns.padStart(9, '0').slice(-9)}`;
}

/** As RFC 3339 has it, to the nanosecond, in UTC. */
export function utcTime(ns: string): string {
  return `${new Date(Math.floor(msOf(ns))).toISOString().slice(0, 19)}.${ns.padStart(9, '0').slice(-9)}Z`;
}
