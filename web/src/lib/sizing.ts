/** What is kept of how much. */
export interface Load {
  /** Series that have samples on a day. */
  series: number;
  /** Seconds between two samples of a series. */
  interval: number;
  /** Days for which samples are kept. */
  days: number;
  /** Days for which rollups are kept, from the first day on; 0 for none. */
  rollupDays: number;
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
export const ROLLUP_DAY_BYTES = 288 * 4.5;
/** Flushes, merges under way and the log, which a merge makes room for. */
export const HEADROOM = 1.25;

const DAY_SECONDS = 86_400;

/** The formula of `docs/operating/sizing.md`. */
export function size({ series, interval, days, rollupDays }: Load): Size {
  const samplesDay = (series * DAY_SECONDS) / Math.max(interval, 0.1);
  const samples = days * (samplesDay * SAMPLE_BYTES + series * SERIES_DAY_BYTES) * HEADROOM;
  const rolled = rollupDays > days ? rollupDays : 0;
  const rollups = rolled * series * ROLLUP_DAY_BYTES;
  return { samples, rollups, total: samples + rollups };
}
