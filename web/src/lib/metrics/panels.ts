/** The charts of a host: which metrics, how they combine, and how their lines are named and coloured. */

import { seriesColour } from '../chart/colour';
import type { Line } from '../chart/data';
import type { Cell } from '../chart/frame';
import type { Unit } from '../format/units';
import { t, tOr, type Key } from '../i18n/index.svelte';
import type { Matcher, Source } from './source';

export type Section = 'cpu' | 'memory' | 'load' | 'network' | 'disks' | 'processes';

export interface Panel {
  id: string;
  section: Section;
  title: Key;
  hint?: Key;
  unit: Unit;
  sources: readonly Source[];
  /** The lines to draw, given the columns there are. Texts are in the language of the moment. */
  lines(keys: readonly string[]): Line[];
  stacked?: boolean;
  softMax?: number;
}

const gauge = (id: string, metric: string, by: string | null = null): Source => ({
  id,
  metric,
  kind: 'gauge',
  by,
  own: by === null ? [] : [by],
});

const counter = (id: string, metric: string, extra: Partial<Source> = {}): Source => ({
  id,
  metric,
  kind: 'counter',
  by: null,
  own: [],
  ...extra,
});

const not = (label: string, pattern: string): Matcher => ({ label, op: '!~', value: pattern });

/** Loopback and the host's end of containers' links: traffic that never leaves the machine. */
const NETWORK_DEVICES = [not('device', 'lo|veth.*|ifb.*|dummy.*|cali.*')];
/** Devices without a medium behind them. */
const BLOCK_DEVICES = [not('device', '(z?ram|loop|fd|sr)[0-9]+')];

const byDevice = { by: 'device', own: ['device'] };
const network = (id: string, metric: string, scale?: number): Source =>
  counter(id, metric, { ...byDevice, where: NETWORK_DEVICES, ...(scale === undefined ? {} : { scale }) });
const disk = (id: string, metric: string, scale?: number): Source =>
  counter(id, metric, { ...byDevice, where: BLOCK_DEVICES, ...(scale === undefined ? {} : { scale }) });

const natural = (a: string, b: string) => a.localeCompare(b, 'en', { numeric: true });

/** The part of a line's key behind its source's id. */
const nameOf = (key: string): string => key.slice(key.indexOf(':') + 1);

/** One line per device and source, a device's lines in one colour; those marked are drawn downwards. */
function deviceLines(keys: readonly string[], labels: Record<string, { label: Key; mirrored?: boolean; dashed?: boolean }>): Line[] {
  const devices = [...new Set(keys.map(nameOf))].sort(natural);
  const present = new Set(keys);
  return devices.flatMap((device, i) =>
    Object.entries(labels)
      .filter(([id]) => present.has(`${id}:${device}`))
      .map(([id, { label, mirrored, dashed }]) => ({
        key: `${id}:${device}`,
        label: t(label, { device }),
        colour: seriesColour(i),
        ...(mirrored === undefined ? {} : { mirrored }),
        ...(dashed === undefined ? {} : { dashed }),
      })),
  );
}

/** Fixed lines, of which those without a column are left out. */
function fixedLines(keys: readonly string[], lines: readonly { key: string; label: Key; colour: string; dashed?: boolean }[]): Line[] {
  const present = new Set(keys);
  return lines.filter((line) => present.has(line.key)).map((line) => ({ ...line, label: t(line.label) }));
}

const CPU_MODES: readonly [string, string][] = [
  ['user', '--series-0'],
  ['system', '--series-1'],
  ['iowait', '--series-3'],
  ['softirq', '--series-5'],
  ['irq', '--series-7'],
  ['nice', '--series-2'],
  ['steal', '--series-4'],
];

const PROCESS_STATES: readonly [string, string][] = [
  ['R', '--series-1'],
  ['D', '--series-4'],
  ['S', '--series-0'],
  ['I', '--series-9'],
  ['T', '--series-6'],
  ['t', '--series-5'],
  ['Z', '--series-7'],
  ['X', '--series-3'],
];

/** A sum in which what is not collected counts nothing; without the leading term there is no sum. */
const minus = (cell: (key: string) => Cell, from: string, ...parts: string[]): Cell => {
  const whole = cell(from);
  if (typeof whole !== 'number') return whole;
  return Math.max(0, parts.reduce((rest, part) => rest - (cell(part) ?? 0), whole));
};

/**
 * A mode's percentage of the time all modes together counted. Divided by the clock instead, a collection
 * that came a little late would show more than there is.
 */
function shareOfAll(cell: (key: string) => Cell, key: string, all: readonly string[]): Cell {
  const own = cell(key);
  if (typeof own !== 'number') return own;
  const total = all.reduce((sum, mode) => sum + (cell(mode) ?? 0), 0);
  return total > 0 ? (100 * own) / total : undefined;
}

/** A share of time measured between two collections, of which one may have come late. */
const atMostAll = (line: Line): Line => ({
  ...line,
  value: (cell) => {
    const share = cell(line.key);
    return typeof share === 'number' ? Math.min(100, share) : share;
  },
});

/** Time per operation; where there was no operation there is no time to speak of, and the line has a hole. */
function perOperation(cell: (key: string) => Cell, timeKey: string): Cell {
  const time = cell(timeKey);
  const operations = cell(timeKey.replace(/^(read|write)Time:/, '$1s:'));
  if (time === null || operations === null) return null;
  if (time === undefined || operations === undefined) return undefined;
  return operations > 0 ? time / operations : null;
}

export const PANELS: readonly Panel[] = [
  {
    id: 'cpuModes',
    section: 'cpu',
    title: 'panel.cpuModes',
    unit: 'percent',
    stacked: true,
    softMax: 10,
    sources: [counter('mode', 'node_cpu_seconds_total', { by: 'mode', own: ['cpu', 'mode'] })],
    lines(keys) {
      const present = new Set(keys);
      const known = CPU_MODES.filter(([mode]) => present.has(`mode:${mode}`));
      const other = keys.filter((key) => key !== 'mode:idle' && !CPU_MODES.some(([mode]) => key === `mode:${mode}`));
      return [
        ...known.map(([mode, colour]) => ({ key: `mode:${mode}`, label: tOr(`mode.${mode}`, mode), colour })),
        ...other.map((key) => ({ key, label: nameOf(key), colour: '--series-9' })),
      ].map((line) => ({ ...line, value: (cell) => shareOfAll(cell, line.key, keys) }));
    },
  },
  {
    id: 'memory',
    section: 'memory',
    title: 'panel.memory',
    unit: 'bytes',
    stacked: true,
    sources: [
      gauge('total', 'node_memory_MemTotal_bytes'),
      gauge('free', 'node_memory_MemFree_bytes'),
      gauge('buffers', 'node_memory_Buffers_bytes'),
      gauge('cached', 'node_memory_Cached_bytes'),
      gauge('reclaimable', 'node_memory_SReclaimable_bytes'),
    ],
    lines: (keys) =>
      keys.length === 0
        ? []
        : [
            {
              key: 'used',
              label: t('line.used'),
              colour: '--series-3',
              value: (cell) => minus(cell, 'total', 'free', 'buffers', 'cached', 'reclaimable'),
            },
            { key: 'buffers', label: t('line.buffers'), colour: '--series-5' },
            {
              key: 'cache',
              label: t('line.cached'),
              colour: '--series-0',
              value: (cell) => {
                const cached = cell('cached');
                return typeof cached === 'number' ? cached + (cell('reclaimable') ?? 0) : cached;
              },
            },
            { key: 'free', label: t('line.free'), colour: '--series-9', faint: true },
          ],
  },
  {
    id: 'swap',
    section: 'memory',
    title: 'panel.swap',
    unit: 'bytes',
    sources: [
      gauge('swapTotal', 'node_memory_SwapTotal_bytes'),
      gauge('swapFree', 'node_memory_SwapFree_bytes'),
      gauge('dirty', 'node_memory_Dirty_bytes'),
      gauge('writeback', 'node_memory_Writeback_bytes'),
    ],
    lines: (keys) => [
      ...(keys.includes('swapTotal')
        ? [
            {
              key: 'swapUsed',
              label: t('line.swapUsed'),
              colour: '--series-4',
              value: (cell: (key: string) => Cell) => minus(cell, 'swapTotal', 'swapFree'),
            },
          ]
        : []),
      ...fixedLines(keys, [
        { key: 'dirty', label: 'line.dirty', colour: '--series-6' },
        { key: 'writeback', label: 'line.writeback', colour: '--series-0' },
      ]),
    ],
  },
  {
    id: 'load',
    section: 'load',
    title: 'panel.load',
    unit: 'number',
    softMax: 1,
    sources: [gauge('load1', 'node_load1'), gauge('load5', 'node_load5'), gauge('load15', 'node_load15')],
    lines: (keys) =>
      fixedLines(keys, [
        { key: 'load1', label: 'line.load1', colour: '--series-1' },
        { key: 'load5', label: 'line.load5', colour: '--series-0' },
        { key: 'load15', label: 'line.load15', colour: '--series-9' },
      ]),
  },
  {
    id: 'pressure',
    section: 'load',
    title: 'panel.pressure',
    hint: 'panel.pressureHint',
    unit: 'percent',
    softMax: 5,
    sources: [
      counter('cpu', 'node_pressure_cpu_waiting_seconds_total', { scale: 100 }),
      counter('memory', 'node_pressure_memory_waiting_seconds_total', { scale: 100 }),
      counter('memoryFull', 'node_pressure_memory_stalled_seconds_total', { scale: 100 }),
      counter('io', 'node_pressure_io_waiting_seconds_total', { scale: 100 }),
      counter('ioFull', 'node_pressure_io_stalled_seconds_total', { scale: 100 }),
    ],
    lines: (keys) =>
      fixedLines(keys, [
        { key: 'cpu', label: 'line.cpuWaiting', colour: '--series-0' },
        { key: 'memory', label: 'line.memoryWaiting', colour: '--series-3' },
        { key: 'memoryFull', label: 'line.memoryStalled', colour: '--series-3', dashed: true },
        { key: 'io', label: 'line.ioWaiting', colour: '--series-1' },
        { key: 'ioFull', label: 'line.ioStalled', colour: '--series-1', dashed: true },
      ]).map(atMostAll),
  },
  {
    id: 'networkBytes',
    section: 'network',
    title: 'panel.networkBytes',
    hint: 'panel.upIn',
    unit: 'bitsPerSecond',
    softMax: 1000,
    sources: [
      network('in', 'node_network_receive_bytes_total', 8),
      network('out', 'node_network_transmit_bytes_total', 8),
    ],
    lines: (keys) => deviceLines(keys, { in: { label: 'line.in' }, out: { label: 'line.out', mirrored: true } }),
  },
  {
    id: 'networkErrors',
    section: 'network',
    title: 'panel.networkErrors',
    unit: 'operationsPerSecond',
    softMax: 1,
    sources: [
      network('errorsIn', 'node_network_receive_errs_total'),
      network('errorsOut', 'node_network_transmit_errs_total'),
      network('dropsIn', 'node_network_receive_drop_total'),
      network('dropsOut', 'node_network_transmit_drop_total'),
    ],
    lines: (keys) => deviceLines(keys, {
      errorsIn: { label: 'line.errorsIn' },
      errorsOut: { label: 'line.errorsOut', dashed: true },
      dropsIn: { label: 'line.dropsIn' },
      dropsOut: { label: 'line.dropsOut', dashed: true },
    }).map((line, i) => ({ ...line, colour: seriesColour(i) })),
  },
  {
    id: 'diskBytes',
    section: 'disks',
    title: 'panel.diskBytes',
    hint: 'panel.upRead',
    unit: 'bytesPerSecond',
    softMax: 1024,
    sources: [disk('read', 'node_disk_read_bytes_total'), disk('written', 'node_disk_written_bytes_total')],
    lines: (keys) => deviceLines(keys, { read: { label: 'line.read' }, written: { label: 'line.written', mirrored: true } }),
  },
  {
    id: 'diskOperations',
    section: 'disks',
    title: 'panel.diskOperations',
    hint: 'panel.upRead',
    unit: 'operationsPerSecond',
    softMax: 1,
    sources: [disk('read', 'node_disk_reads_completed_total'), disk('written', 'node_disk_writes_completed_total')],
    lines: (keys) => deviceLines(keys, { read: { label: 'line.read' }, written: { label: 'line.written', mirrored: true } }),
  },
  {
    id: 'diskBusy',
    section: 'disks',
    title: 'panel.diskBusy',
    unit: 'percent',
    softMax: 5,
    sources: [disk('busy', 'node_disk_io_time_seconds_total', 100)],
    lines: (keys) =>
      [...keys].sort(natural).map((key, i) => atMostAll({ key, label: nameOf(key), colour: seriesColour(i) })),
  },
  {
    id: 'diskLatency',
    section: 'disks',
    title: 'panel.diskLatency',
    hint: 'panel.diskLatencyHint',
    unit: 'seconds',
    softMax: 0.001,
    sources: [
      disk('readTime', 'node_disk_read_time_seconds_total'),
      disk('reads', 'node_disk_reads_completed_total'),
      disk('writeTime', 'node_disk_write_time_seconds_total'),
      disk('writes', 'node_disk_writes_completed_total'),
    ],
    lines: (keys) =>
      deviceLines(keys, { readTime: { label: 'line.read' }, writeTime: { label: 'line.written', dashed: true } }).map((line) => ({
        ...line,
        value: (cell) => perOperation(cell, line.key),
      })),
  },
  {
    id: 'processStates',
    section: 'processes',
    title: 'panel.processStates',
    unit: 'number',
    stacked: true,
    sources: [gauge('state', 'node_processes_state', 'state')],
    lines: (keys) =>
      PROCESS_STATES.filter(([state]) => keys.includes(`state:${state}`)).map(([state, colour]) => ({
        key: `state:${state}`,
        label: tOr(`state.${state}`, state),
        colour,
      })),
  },
  {
    id: 'context',
    section: 'processes',
    title: 'panel.context',
    unit: 'operationsPerSecond',
    softMax: 1,
    sources: [
      counter('switches', 'node_context_switches_total'),
      counter('interrupts', 'node_intr_total'),
      counter('forks', 'node_forks_total'),
    ],
    lines: (keys) =>
      fixedLines(keys, [
        { key: 'switches', label: 'line.switches', colour: '--series-0' },
        { key: 'interrupts', label: 'line.interrupts', colour: '--series-2' },
        { key: 'forks', label: 'line.forks', colour: '--series-1' },
      ]),
  },
];

/** Idle time per core; the heat strip shows what is not idle. */
export const CORES_SOURCE: Source = counter('core', 'node_cpu_seconds_total', {
  by: 'cpu',
  own: ['cpu'],
  scale: 100,
  where: [{ label: 'mode', op: '=', value: 'idle' }],
});

/** What tables and the page's head show: only the newest values count. */
export const LATEST_METRICS: readonly string[] = [
  'node_boot_time_seconds',
  'node_filesystem_avail_bytes',
  'node_filesystem_files',
  'node_filesystem_files_free',
  'node_filesystem_free_bytes',
  'node_filesystem_readonly',
  'node_filesystem_size_bytes',
  'node_load1',
  'node_memory_MemAvailable_bytes',
  'node_memory_MemTotal_bytes',
  'node_os_info',
  'node_processes_pids',
  'node_processes_threads',
  'node_top_process_cpu_ratio',
  'node_top_process_resident_bytes',
  'node_uname_info',
];
