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

/** Black or white, whichever can be read better on an `rgb(r g b)` colour. */
export function inkOn(rgb: string): string {
  const [r, g, b] = (rgb.match(/\d+/g) ?? []).map((value) => {
    const share = Number(value) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * (r ?? 0) + 0.7152 * (g ?? 0) + 0.0722 * (b ?? 0);
  // Contrast with black is (l + 0.05) / 0.05, with white 1.05 / (l + 0.05); they are equal at 0.179.
  return luminance > 0.179 ? '#000000' : '#ffffff';
}
