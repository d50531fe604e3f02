/** Numbers as people read them: three significant digits, one unit per axis, no exponent soup. */

export type Unit =
  | 'percent'
  | 'bytes'
  | 'bytesPerSecond'
  | 'bitsPerSecond'
  | 'seconds'
  | 'cores'
  | 'operationsPerSecond'
  | 'number';

export interface Quantity {
  number: string;
  suffix: string;
}

interface Step {
  factor: number;
  suffix: string;
}

function ladder(base: number, prefixes: readonly string[], tail: string): Step[] {
  return prefixes.map((prefix, i) => ({ factor: base ** i, suffix: prefix + tail }));
}

const BINARY = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'] as const;
const DECIMAL = ['', 'k', 'M', 'G', 'T', 'P', 'E'] as const;

const STEPS: Record<Unit, Step[]> = {
  percent: [{ factor: 1, suffix: '%' }],
  bytes: ladder(1024, BINARY, 'B'),
  bytesPerSecond: ladder(1024, BINARY, 'B/s'),
  bitsPerSecond: ladder(1000, DECIMAL, 'b/s'),
  seconds: [
    { factor: 1e-9, suffix: 'ns' },
    { factor: 1e-6, suffix: 'µs' },
    { factor: 1e-3, suffix: 'ms' },
    { factor: 1, suffix: 's' },
    { factor: 60, suffix: 'min' },
    { factor: 3600, suffix: 'h' },
    { factor: 86400, suffix: 'd' },
  ],
  cores: [{ factor: 1, suffix: '' }],
  operationsPerSecond: ladder(1000, DECIMAL, '/s'),
  number: ladder(1000, DECIMAL, ''),
};

/** From so many of its largest step on a number is written with an exponent: there is no prefix beyond. */
const LARGEST: Record<Unit, number> = {
  percent: 1e9,
  bytes: 1023.5,
  bytesPerSecond: 1023.5,
  bitsPerSecond: 999.5,
  seconds: 1e7,
  cores: 1e9,
  operationsPerSecond: 999.5,
  number: 999.5,
};

/** The step that is the unit itself. */
function ownStep(unit: Unit): Step {
  return STEPS[unit].find(({ factor }) => factor === 1) as Step;
}

function isBeyond(magnitude: number, unit: Unit): boolean {
  const steps = STEPS[unit];
  return magnitude >= (steps[steps.length - 1] as Step).factor * LARGEST[unit];
}

/** Three significant digits and an exponent. */
function exponential(value: number): string {
  return value.toExponential(2).replace(/\.?0+e/, 'e');
}

function stepFor(magnitude: number, unit: Unit): Step {
  const steps = STEPS[unit];
  let chosen = unit === 'seconds' && magnitude === 0 ? (steps[3] as Step) : (steps[0] as Step);
  // 0.9995 keeps 999.6 from printing as "1000" one unit too low.
  for (const step of steps) if (magnitude >= step.factor * 0.9995) chosen = step;
  return chosen;
}

function digits(scaled: number): string {
  const size = Math.abs(scaled);
  if (size >= 99.95 || size === 0) return Math.round(scaled).toString();
  if (size >= 9.995) return trimmed(scaled, 1);
  if (size >= 0.01) return trimmed(scaled, 2);
  return Number(scaled.toPrecision(2)).toString();
}

function trimmed(value: number, places: number): string {
  return value.toFixed(places).replace(/\.?0+$/, '');
}

function special(value: number): string | null {
  if (Number.isNaN(value)) return 'NaN';
  if (value === Infinity) return '+Inf';
  if (value === -Infinity) return '−Inf';
  return null;
}

/** Splits a value into number and suffix; a missing value is a dash with no suffix. */
export function quantity(value: number | null | undefined, unit: Unit): Quantity {
  if (value === null || value === undefined) return { number: '–', suffix: '' };
  const odd = special(value);
  if (odd !== null) return { number: odd, suffix: '' };
  if (isBeyond(Math.abs(value), unit)) return { number: minus(exponential(value)), suffix: ownStep(unit).suffix };
  if (unit === 'percent') return { number: percentDigits(value), suffix: '%' };
  const step = stepFor(Math.abs(value), unit);
  return { number: minus(digits(value / step.factor)), suffix: step.suffix };
}

/** Percentages keep one decimal below 100, so that a live figure does not change its width every second. */
function percentDigits(value: number): string {
  const size = Math.abs(value);
  return minus(size >= 99.95 ? Math.round(value).toString() : value.toFixed(1));
}

const minus = (text: string) => text.replaceAll('-', '−');

export function format(value: number | null | undefined, unit: Unit): string {
  const { number, suffix } = quantity(value, unit);
  if (suffix === '') return number;
  return suffix === '%' || suffix === '/s' ? `${number}${suffix === '%' ? ' %' : ' /s'}` : `${number} ${suffix}`;
}

/** Formats all ticks of one axis in one unit, with just enough decimals to tell them apart. */
export function formatTicks(ticks: readonly number[], unit: Unit): string[] {
  const largest = ticks.reduce((max, tick) => Math.max(max, Math.abs(tick)), 0);
  const isTiny = largest !== 0 && largest / (STEPS[unit][0] as Step).factor < 1e-6;
  if (isTiny || isBeyond(largest, unit)) return exponentTicks(ticks, largest, ownStep(unit).suffix);
  const step = stepFor(largest, unit);
  const gap = ticks.length > 1 ? Math.abs((ticks[1] as number) - (ticks[0] as number)) / step.factor : 1;
  const places = decimalsOf(gap);
  const suffix = tickSuffix(step.suffix);
  return ticks.map((tick) => {
    if (tick === 0) return suffix === '%' ? '0%' : '0';
    return minus((Math.abs(tick) < 1e-300 ? 0 : tick / step.factor).toFixed(places)) + suffix;
  });
}

const tickSuffix = (suffix: string) => (suffix === '' || suffix === '%' ? suffix : ` ${suffix.trim()}`);

/** Ticks with one exponent for all of an axis, for what is too large or too small to do without. */
function exponentTicks(ticks: readonly number[], largest: number, suffix: string): string[] {
  const exponent = Math.floor(Math.log10(largest));
  // In two steps: the inverse of a very small power of ten is no number.
  const mantissa = (tick: number) => (exponent < -300 ? (tick * 1e300) / 10 ** (exponent + 300) : tick / 10 ** exponent);
  const places = decimalsOf(ticks.length > 1 ? Math.abs(mantissa(ticks[1] as number) - mantissa(ticks[0] as number)) : 1);
  // No plus: with a minus in front there would be no room for it.
  const power = `e${exponent < 0 ? '−' : ''}${Math.abs(exponent)}`;
  return ticks.map((tick) => (tick === 0 ? '0' : minus(mantissa(tick).toFixed(places)) + power + tickSuffix(suffix)));
}

/** How many decimals it takes to write multiples of `gap` exactly, nine at the most. */
function decimalsOf(gap: number): number {
  for (let places = 0; places < 9; places++) {
    const scaled = gap * 10 ** places;
    if (Math.abs(scaled - Math.round(scaled)) < 1e-6 * Math.max(1, scaled) && (scaled >= 0.5 || gap === 0)) return places;
  }
  return 9;
}

/** The increments an axis may use: powers of two for binary units, so that ticks read 256, 512, not 244.1. */
export function tickIncrements(unit: Unit): number[] | undefined {
  if (unit !== 'bytes' && unit !== 'bytesPerSecond') return undefined;
  const increments: number[] = [];
  for (let power = 0; power < 60; power++) increments.push(2 ** power);
  return increments;
}

/** A number in full, for tables and tooltips of arbitrary queries. */
export function exact(value: number): string {
  const odd = special(value);
  if (odd !== null) return odd;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e15)) return minus(Number(value.toPrecision(6)).toString());
  return minus(Number(value.toPrecision(size >= 1e6 ? 15 : 7)).toString());
}
