/** A thin hull around uPlot: our axes, our scales, and redrawing only what changed. */

import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import './plot.css';
import { formatTicks, tickIncrements, type Unit } from '../format/units';
import { timeTicks } from '../format/time';
import { cssColour } from '../theme.svelte';
import { translucent } from './colour';
import { drawnFactor, finite, lineColumns, mirror, spreadHoles, stack, type Line } from './data';
import type { Cell, Frame } from './frame';

export interface Hover {
  row: number;
  /** Pixels from the plot's own left and top edge. */
  left: number;
  top: number;
  /** The pointer is on this very chart, not on one in step with it. */
  here: boolean;
}

export interface PlotOptions {
  frame: Frame;
  lines: readonly Line[];
  hidden: ReadonlySet<string>;
  unit: Unit;
  stacked: boolean;
  /** The axis reaches at least this far. */
  softMax?: number;
  /** Charts with the same key share their crosshair. */
  syncKey?: string;
  hover(hover: Hover | null): void;
  zoom(from: number, to: number): void;
  zoomOut(): void;
}

const Y_AXIS_WIDTH = 66;
const RIGHT_PADDING = 12;
/** Width of a digit of a tick's label, in CSS pixels. */
const TICK_CHARACTER = 6.2;

export class Plot {
  /** Values per line as shown in legends: neither stacked nor mirrored. */
  columns: Cell[][] = [];
  #plot: uPlot;
  #options: PlotOptions;
  /** What is drawn is the values divided by this. */
  #factor = 1;
  #drawnVersion = -1;
  #drawnFrom = NaN;
  #drawnTo = NaN;
  #pointerHere = false;

  constructor(root: HTMLElement, width: number, height: number, options: PlotOptions) {
    this.#options = options;
    this.#plot = new uPlot(this.#uplotOptions(width, height), this.#data(), root);
    const { over } = this.#plot;
    over.addEventListener('mouseenter', () => (this.#pointerHere = true));
    over.addEventListener('mouseleave', () => {
      this.#pointerHere = false;
      options.hover(null);
    });
  }

  resize(width: number, height: number): void {
    if (width !== this.#plot.width || height !== this.#plot.height) this.#plot.setSize({ width, height });
  }

  /** Brings the picture up to date for a window in ms; yields whether anything was drawn. */
  draw(from: number, to: number): boolean {
    const { frame } = this.#options;
    const stale = frame.version !== this.#drawnVersion;
    const pixelsPerMs = (this.#plot.width - Y_AXIS_WIDTH) / (to - from);
    const moved = !(
      Math.abs(from - this.#drawnFrom) * pixelsPerMs < 0.25 && Math.abs(to - this.#drawnTo) * pixelsPerMs < 0.25
    );
    if (!stale && !moved) return false;
    this.#drawnFrom = from;
    this.#drawnTo = to;
    this.#plot.batch(() => {
      if (stale) this.#plot.setData(this.#data(), false);
      // uPlot takes the scale's ends for whole milliseconds; with a fraction its ticks lie 1 ms before the
      // round time they mean, and labels cut to the second or minute would tell the one before.
      this.#plot.setScale('x', { min: Math.round(from), max: Math.round(to) });
    });
    return true;
  }

  destroy(): void {
    this.#plot.destroy();
  }

  #data(): uPlot.AlignedData {
    const { frame, lines, hidden, stacked, unit } = this.#options;
    this.#drawnVersion = frame.version;
    this.columns = lineColumns(frame, lines);
    let columns: readonly (readonly Cell[])[] = this.columns.map(finite);
    this.#factor = drawnFactor(columns.filter((_, i) => !hidden.has(lines[i]?.key ?? '')), tickIncrements(unit) ? 1024 : 1000);
    if (this.#factor !== 1) {
      columns = columns.map((column) => column.map((cell) => (typeof cell === 'number' ? cell / this.#factor : cell)));
    }
    const drawn = stacked
      ? stack(columns, lines.map((line) => hidden.has(line.key)))
      : columns.map((column, i) => (lines[i]?.mirrored ? mirror(column) : column));
    return [frame.times, ...drawn.map(spreadHoles)] as uPlot.AlignedData;
  }

  #uplotOptions(width: number, height: number): uPlot.Options {
    const { lines, hidden, stacked, syncKey, zoom, zoomOut } = this.#options;
    return {
      width,
      height,
      ms: 1,
      legend: { show: false },
      padding: [10, RIGHT_PADDING, 0, 0],
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false, dist: 4 },
        bind: {
          dblclick: () => () => {
            zoomOut();
            return null;
          },
        },
        points: { size: 7, width: 2, show: lines.length <= 30 },
        ...(syncKey === undefined ? {} : { sync: { key: syncKey, setSeries: false } }),
      },
      scales: { x: { time: true, auto: false }, y: { range: (_u, min, max) => this.#yRange(min, max) } },
      axes: this.#axes(),
      series: [{}, ...lines.map((line, i) => this.#series(line, i))],
      bands: stacked ? this.#bands(lines, hidden) : [],
      hooks: {
        setCursor: [(u) => this.#hovered(u)],
        setSelect: [
          (u) => {
            // uPlot leaves the rectangle standing; once it has become the new range it has no meaning.
            if (u.select.width < 4) return;
            const from = u.posToVal(u.select.left, 'x');
            const to = u.posToVal(u.select.left + u.select.width, 'x');
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            if (this.#pointerHere) zoom(from, to);
          },
        ],
      },
    };
  }

  #series(line: Line, index: number): uPlot.Series {
    const { hidden, stacked, lines } = this.#options;
    const colour = cssColour(line.colour);
    const many = lines.length > 24;
    const series: uPlot.Series = {
      label: line.label,
      show: !hidden.has(line.key),
      stroke: colour,
      width: stacked || many ? 1 : 1.5,
      // Whole-pixel snapping would make a slowly scrolling line jitter.
      pxAlign: 0,
      points: { show: false, filter: (u, seriesIndex) => lonelyRows(u, seriesIndex), size: 4, width: 1, fill: colour },
    };
    if (stacked) series.fill = translucent(colour, line.faint ? 0.1 : 0.55);
    else if (line.dashed !== true && (lines.length <= 2 || (line.mirrored !== undefined && !many))) series.fill = translucent(colour, 0.12);
    if (line.dashed) series.dash = [5, 4];
    if (stacked && index > 0) series.fillTo = 0;
    return series;
  }

  #bands(lines: readonly Line[], hidden: ReadonlySet<string>): uPlot.Band[] {
    const shown = lines.map((line, i) => ({ line, series: i + 1 })).filter(({ line }) => !hidden.has(line.key));
    return shown.slice(1).map(({ series }, i) => ({ series: [series, (shown[i] as { series: number }).series] }));
  }

  #axes(): uPlot.Axis[] {
    const { unit } = this.#options;
    const common = {
      stroke: cssColour('--faint'),
      font: `11px ${cssColour('--font')}`,
      grid: { stroke: cssColour('--grid'), width: 1 },
      ticks: { show: false },
    };
    const increments = tickIncrements(unit);
    return [
      {
        ...common,
        size: 26,
        gap: 6,
        space: 84,
        values: (u, splits, _axis, _space, gap) => {
          const room = u.bbox.width / devicePixelRatio + RIGHT_PADDING;
          // Labels stand centred under their ticks; one that the right edge would cut is left out.
          return timeTicks(splits, gap).map((label, i) =>
            u.valToPos(splits[i] as number, 'x') + (label.length * TICK_CHARACTER) / 2 > room ? '' : label,
          );
        },
      },
      {
        ...common,
        size: Y_AXIS_WIDTH,
        gap: 8,
        space: 30,
        ...(increments ? { incrs: increments } : {}),
        // Mirrored lines are drawn negative but mean positive amounts.
        values: (_u, splits) => {
          const ticks = splits.map((split) => split * this.#factor);
          return formatTicks(this.#isMirrored() ? ticks.map(Math.abs) : ticks, unit);
        },
      },
    ];
  }

  #isMirrored(): boolean {
    return this.#options.lines.some((line) => line.mirrored);
  }

  #yRange(min: number | null, max: number | null): uPlot.Range.MinMax {
    const soft = (this.#options.softMax ?? 0) / this.#factor;
    const low = Math.min(0, min ?? 0);
    const high = Math.max(soft, max ?? 0, 0);
    if (this.#isMirrored()) {
      const reach = Math.max(-low, high) || 1;
      return [-reach * 1.08, reach * 1.08];
    }
    if (low === 0 && high === 0) return [0, 1];
    // Values that hardly vary far away from zero would be a flat line on a zero-based axis, which is honest.
    return [low * 1.08, high === soft && soft > 0 ? high : high * 1.08];
  }

  #hovered(u: uPlot): void {
    const { idx, left = -1, top = -1 } = u.cursor;
    this.#options.hover(
      idx === null || idx === undefined || left < 0 ? null : { row: idx, left, top, here: this.#pointerHere },
    );
  }

  /** Where a value lies, in CSS pixels from the plotting area's left and top edge; null outside of the time shown. */
  place(atMs: number, value: number): { x: number; y: number } | null {
    const x = this.#plot.valToPos(atMs, 'x');
    return x < 0 || x > this.#plot.over.clientWidth ? null : { x, y: this.#plot.valToPos(value / this.#factor, 'y') };
  }

  /** Where the plotting area begins inside the chart, in CSS pixels. */
  get origin(): { left: number; top: number } {
    return { left: this.#plot.over.offsetLeft, top: this.#plot.over.offsetTop };
  }
}

/** Rows in view whose value has a hole on either side: no line would show them, so they get a point. */
function lonelyRows(u: uPlot, seriesIndex: number): number[] {
  const column = u.data[seriesIndex] ?? [];
  const [first, last] = u.series[0]?.idxs ?? [0, -1];
  const lonely: number[] = [];
  let run = 0;
  for (let row = first; row <= last + 1; row++) {
    const cell = row > last ? null : column[row];
    if (cell === undefined) continue;
    if (cell === null) {
      if (run === 1) lonely.push(lastValueBefore(column, row));
      run = 0;
    } else run++;
  }
  return lonely;
}

function lastValueBefore(column: ArrayLike<number | null | undefined>, row: number): number {
  let at = row - 1;
  while (at > 0 && typeof column[at] !== 'number') at--;
  return at;
}
