/** A `#rrggbb` colour with an alpha channel; other notations are returned unchanged. */
export function translucent(hex: string, alpha: number): string {
  const part = Math.round(alpha * 255)
    .toString(16)
    .padStart(2, '0');
  return /^#[0-9a-f]{6}$/i.test(hex) ? hex + part : hex;
}

/** The categorical colours in the order charts use them. */
export const SERIES_COLOURS = 10;

export const seriesColour = (index: number): string => `--series-${index % SERIES_COLOURS}`;

/** The colour at `share` (0 to 1) of a gradient through evenly spaced `#rrggbb` stops. */
export function heatColour(stops: readonly string[], share: number): string {
  const place = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(place));
  const part = place - low;
  const channel = (i: number) => {
    const a = parseInt((stops[low] as string).slice(i, i + 2), 16);
    const b = parseInt((stops[low + 1] as string).slice(i, i + 2), 16);
    return Math.round(a + (b - a) * part);
  };
  return `rgb(${channel(1)} ${channel(3)} ${channel(5)})`;
}
