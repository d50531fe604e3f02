import { parseDuration } from './time/range';

/** Rollups of one resolution, kept until they are so old. */
export interface Tier {
  /** Length of the windows, seconds. */
  seconds: number;
  /** Age in days at which coarser ones take their place, or nothing does. */
  days: number;
}

/** Fewer samples of what is old. */
export interface Downsampling {
  /** Seconds of which one sample stays. */
  seconds: number;
  /** Age in days from which on. */
  after: number;
}

/** What is kept of how much. */
export interface Load {
  /** Series that have samples on a day. */
  series: number;
  /** Seconds between two samples of a series. */
  interval: number;
  /** Days for which samples are kept. */
  days: number;
  /** To what they are downsampled when they are older, if they are. */
  downsampling?: Downsampling | null;
  /** Rollups, the finest first; they lie beside the samples too. */
  tiers: Tier[];
}

/** What that takes on disk, in bytes. */
export interface Size {
  samples: number;
  rollups: number;
  total: number;
}

/** Measured on the series of a host, see `docs/operating/sizing.md`. */
export const SAMPLE_BYTES = 0.44;
export const SERIES_DAY_BYTES = 60;
export const ROW_BYTES = 4.5;
/** Flushes, merges under way and the log, which a merge makes room for. */
export const HEADROOM = 1.25;

const DAY_SECONDS = 86_400;

/** The formula of `docs/operating/sizing.md`. */
export function size({ series, interval, days, downsampling, tiers }: Load): Size {
  const day = (every: number) => (series * DAY_SECONDS * SAMPLE_BYTES) / Math.max(every, 0.1) + series * SERIES_DAY_BYTES;
  // What comes at about the interval stays whole, and a day waits until all of it is old.
  const goes = downsampling && interval < downsampling.seconds / 2 ? downsampling : null;
  const dense = goes ? Math.min(days, goes.after + 1) : days;
  const samples = (dense * day(interval) + (days - dense) * day(goes?.seconds ?? interval)) * HEADROOM;
  let rollups = 0;
  let from = 0;
  for (const tier of tiers.filter((tier) => tier.days > days)) {
    const rows = (Math.max(tier.days - from, 0) * DAY_SECONDS) / tier.seconds;
    rollups += rows * series * ROW_BYTES;
    from = Math.max(from, tier.days);
  }
  return { samples, rollups, total: samples + rollups };
}

/** Reads `15s 1d`: an interval, and the age from which on. `0` or nothing is none. */
export function parseDownsampling(text: string): Downsampling | null | undefined {
  const tiers = parseTiers(text);
  if (tiers === null || tiers.length > 1) return undefined;
  const [tier] = tiers;
  return tier ? { seconds: tier.seconds, after: tier.days } : null;
}

/** Reads `5m 90d, 1h 5y`: resolutions, and how long each is kept. `0` or nothing is none. */
export function parseTiers(text: string): Tier[] | null {
  if (['', '0'].includes(text.trim())) return [];
  const tiers: Tier[] = [];
  for (const part of text.split(',')) {
    const words = part.trim().split(/[\s:]+/);
    const [resolution, kept] = words.map(parseDuration);
    if (words.length !== 2 || !resolution || !kept) return null;
    tiers.push({ seconds: resolution / 1000, days: kept / 1000 / DAY_SECONDS });
  }
  return tiers;
}
