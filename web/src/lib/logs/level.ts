/** How grave a line is, in the words that the server's detection uses. */

import type { Labels } from '../api/client';

/** The gravest first, as they are stacked from above. */
export const LEVELS = ['fatal', 'critical', 'error', 'warn', 'info', 'debug', 'trace', 'unknown'] as const;
export type Level = (typeof LEVELS)[number];

const ALIASES: Record<string, Level> = {
  emerg: 'critical', emergency: 'critical', alert: 'critical', crit: 'critical',
  err: 'error', eror: 'error', severe: 'error',
  warning: 'warn', wrn: 'warn',
  information: 'info', informational: 'info', inf: 'info', notice: 'info',
  dbg: 'debug', verbose: 'trace', trc: 'trace',
};

export function normalLevel(text: string | undefined): Level {
  if (text === undefined) return 'unknown';
  const word = text.toLowerCase();
  return LEVELS.find((level) => level === word) ?? ALIASES[word] ?? 'unknown';
}

const NAMES = ['detected_level', 'level', 'severity', 'severity_text'];

/** What the server detected comes first, so that the list agrees with what is counted; then what a label says. */
export function levelOf(...places: readonly Labels[]): Level {
  for (const name of NAMES) {
    for (const labels of places) {
      const value = labels[name];
      if (value !== undefined) return normalLevel(value);
    }
  }
  return 'unknown';
}

export const levelColour = (level: Level): string => `var(--level-${level})`;
