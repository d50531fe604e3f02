import { parseDuration } from './time/range';

/** Rollups of one resolution, kept until they are so old. */
export interface Tier {
  /** Length of the windows, seconds. */
  seconds: number;
  /** Age in days at which coarser ones take their place, or nothing does. */
  days: number;
}

/** What is kept of how much. */
export interface Load {
  /** Series that have samples on a day. */
  series: number;
  /** Seconds between two samples of a series. */
  interval: number;
  /** Days for which samples are kept. */
  days: number;
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
export function size({ series, interval, days, tiers }: Load): Size {
  const samplesDay = (series * DAY_SECONDS) / Math.max(interval, 0.1);
  const samples = days * (samplesDay * SAMPLE_BYTES + series * SERIES_DAY_BYTES) * HEADROOM;
  let rollups = 0;
  let from = 0;
  for (const tier of tiers.filter((tier) => tier.days > days)) {
    const rows = (Math.max(tier.days - from, 0) * DAY_SECONDS) / tier.seconds;
    rollups += rows * series * ROW_BYTES;
    from = Math.max(from, tier.days);
  }
  return { samples, rollups, total: samples + rollups };
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
