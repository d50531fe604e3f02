/** What `/api/v1/targets` tells, in Prometheus' shape. */

import type { Labels } from '../../lib/api/client';

/** A target before relabeling; dropped ones are no more than that. */
export interface Discovered {
  discoveredLabels: Labels;
  scrapePool?: string;
}

export interface Target extends Discovered {
  labels: Labels;
  /** Whose it is, where this console shows several clusters. */
  brokerCluster?: string;
  scrapePool: string;
  scrapeUrl: string;
  lastError: string;
  lastScrape: string;
  lastScrapeDuration: number;
  health: 'up' | 'down' | 'unknown';
  scrapeInterval: string;
  scrapeTimeout: string;
  /** The broker of a cluster that asks it. */
  scrapedBy?: string;
}

export interface TargetsData {
  activeTargets: Target[];
  droppedTargets: Discovered[];
  droppedTargetCounts: Record<string, number>;
}

export interface RelabelStep {
  rule: Record<string, unknown>;
  output: Labels;
  keep: boolean;
}

/** Labels that a step made, changed or removed. */
export interface Change {
  name: string;
  before: string | undefined;
  after: string | undefined;
}

export function changes(before: Labels, after: Labels): Change[] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  return names
    .filter((name) => before[name] !== after[name])
    .map((name) => ({ name, before: before[name], after: after[name] }));
}
