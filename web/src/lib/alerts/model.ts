/** One list of alerts, from what rules tell of them and what the notifier does. */

import type { NotifiedAlert, NotifiedGroup, RuleAlert } from '../api/alerting';
import { toNumber, type Labels } from '../api/client';
import { labelsKey } from '../chart/frame';

export const STATES = ['firing', 'pending', 'silenced', 'inhibited', 'muted'] as const;
export type State = (typeof STATES)[number];

export interface Alert {
  /** Names the alert in addresses: its fingerprint, or its labels as long as nobody is told of it. */
  id: string;
  fingerprint: string | null;
  name: string;
  labels: Labels;
  /** As its rule has them, and so its series: without what was added on the way. */
  ownLabels: Labels;
  annotations: Labels;
  state: State;
  sinceMs: number;
  /** Null for one that no rule here made. */
  value: number | null;
  receivers: string[];
  silencedBy: string[];
  inhibitedBy: string[];
  mutedBy: string[];
  generatorUrl: string;
}

export interface AlertGroup {
  key: string;
  /** What its alerts have in common. */
  labels: Labels;
  /** Only of groups as receivers are told of them. */
  receiver: string;
  alerts: Alert[];
}

/** The text of an alert that tells most. */
export const summaryOf = ({ annotations }: Pick<Alert, 'annotations'>): string =>
  annotations['summary'] ?? annotations['message'] ?? annotations['description'] ?? '';

function stateOf({ status }: NotifiedAlert, mutedBy: readonly string[]): State {
  if (status.silencedBy.length > 0) return 'silenced';
  if (status.inhibitedBy.length > 0) return 'inhibited';
  return mutedBy.length > 0 ? 'muted' : 'firing';
}

/** Whether labels are those of a rule's alert, or those and what was added on the way, such as external labels. */
export const covers = (own: Labels, told: Labels): boolean => Object.entries(own).every(([name, value]) => told[name] === value);

/** Finds the key of a rule's alert by the labels that were told of it. */
function finder(rules: ReadonlyMap<string, RuleAlert>): (told: Labels) => string {
  /** Which names the labels of alerts of a name have; few differ. */
  const shapes = new Map<string, Map<string, string[]>>();
  for (const { labels } of rules.values()) {
    const names = Object.keys(labels).sort();
    const name = labels['alertname'] ?? '';
    const of = shapes.get(name) ?? new Map<string, string[]>();
    shapes.set(name, of.set(names.join('\n'), names));
  }
  return (told) => {
    const exact = labelsKey(told);
    if (rules.has(exact)) return exact;
    const most = [...(shapes.get(told['alertname'] ?? '')?.values() ?? [])].sort((a, b) => b.length - a.length);
    for (const names of most) {
      if (!names.every((name) => name in told)) continue;
      const key = labelsKey(Object.fromEntries(names.map((name) => [name, told[name] ?? ''])));
      if (rules.has(key)) return key;
    }
    return exact;
  };
}

/**
 * All alerts, each once. `groups` are those of the notifier, or null if it could not be asked. An alert is muted
 * where it is in each of its groups.
 */
export function merged(ofRules: readonly RuleAlert[], groups: readonly NotifiedGroup[] | null): { alerts: Alert[]; groups: AlertGroup[] } {
  const rules = new Map(ofRules.map((alert) => [labelsKey(alert.labels), alert]));
  const alerts = new Map<string, Alert>();
  const mutes = new Map<string, string[][]>();
  const grouped: AlertGroup[] = [];
  const keyOf = finder(rules);
  const known = new Set<string>();
  for (const group of groups ?? []) {
    const members: Alert[] = [];
    for (const told of group.alerts) {
      const key = labelsKey(told.labels);
      let alert = alerts.get(key);
      if (alert === undefined) {
        const own = keyOf(told.labels);
        const rule = rules.get(own);
        known.add(own);
        alert = {
          id: told.fingerprint,
          fingerprint: told.fingerprint,
          name: told.labels['alertname'] ?? '',
          labels: told.labels,
          ownLabels: rule?.labels ?? told.labels,
          annotations: told.annotations,
          state: 'firing',
          sinceMs: Date.parse(rule?.activeAt ?? told.startsAt),
          value: rule === undefined ? null : toNumber(rule.value),
          receivers: told.receivers.map(({ name }) => name),
          silencedBy: told.status.silencedBy,
          inhibitedBy: told.status.inhibitedBy,
          mutedBy: [],
          generatorUrl: told.generatorURL ?? '',
        };
        alerts.set(key, alert);
        mutes.set(key, []);
      }
      const mutedHere = mutes.get(key) as string[][];
      mutedHere.push(told.status.mutedBy);
      alert.mutedBy = mutedHere.every((by) => by.length > 0) ? [...new Set(mutedHere.flat())] : [];
      alert.state = stateOf(told, alert.mutedBy);
      members.push(alert);
    }
    grouped.push({ key: `${group.receiver.name}\n${labelsKey(group.labels)}`, labels: group.labels, receiver: group.receiver.name, alerts: members });
  }
  for (const [key, rule] of rules) {
    if (known.has(key) || rule.state === 'inactive') continue;
    alerts.set(key, {
      id: JSON.stringify(rule.labels),
      fingerprint: null,
      name: rule.labels['alertname'] ?? '',
      labels: rule.labels,
      ownLabels: rule.labels,
      annotations: rule.annotations,
      state: rule.state,
      sinceMs: Date.parse(rule.activeAt),
      value: toNumber(rule.value),
      receivers: [],
      silencedBy: [],
      inhibitedBy: [],
      mutedBy: [],
      generatorUrl: '',
    });
  }
  return { alerts: [...alerts.values()], groups: grouped };
}

export function countStates(alerts: readonly Alert[]): Record<State, number> {
  const counts: Record<State, number> = { firing: 0, pending: 0, silenced: 0, inhibited: 0, muted: 0 };
  for (const { state } of alerts) counts[state]++;
  return counts;
}

/** Alerts by name, each once however many receivers are told of it. */
export function countNames(groups: readonly NotifiedGroup[]): Map<string, number> {
  const names = new Map(groups.flatMap(({ alerts }) => alerts.map(({ fingerprint, labels }) => [fingerprint, labels['alertname'] ?? ''] as const)));
  const counts = new Map<string, number>();
  for (const name of names.values()) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

/** What all alerts of a group have in common beside what it is grouped by; nothing where there is one alert. */
export function sharedLabels({ alerts, labels }: AlertGroup): Labels {
  const [first, ...others] = alerts;
  if (first === undefined || others.length === 0) return {};
  const names = Object.keys(first.labels).filter((name) => name !== 'alertname' && name !== 'severity' && !(name in labels));
  const shared = names.filter((name) => others.every((alert) => alert.labels[name] === first.labels[name]));
  return Object.fromEntries(shared.map((name) => [name, first.labels[name] ?? '']));
}

const GRAVITY = ['critical', 'page', 'error', 'high', 'major', 'warning', 'warn', 'medium', 'minor', 'info', 'low', 'none'];

/** What comes first when it is smaller; severities that nobody knows come between warnings and informations. */
export function gravityOf(severity: string | undefined): number {
  const at = GRAVITY.indexOf((severity ?? '').toLowerCase());
  return at < 0 ? 8.5 : at;
}

/** Which of three colours a severity has. */
export function toneOf(severity: string | undefined): 'bad' | 'warn' | 'calm' {
  const gravity = gravityOf(severity);
  if (gravity < 5) return 'bad';
  return gravity < 8 ? 'warn' : 'calm';
}

/** What needs somebody first, then the gravest, then the newest. */
function compare(a: Alert, b: Alert): number {
  return (
    STATES.indexOf(a.state) - STATES.indexOf(b.state) ||
    gravityOf(a.labels['severity']) - gravityOf(b.labels['severity']) ||
    b.sinceMs - a.sinceMs ||
    (a.id < b.id ? -1 : 1)
  );
}

/** Groups by the value of a label; all in one where `label` is empty. Their order is that of their first alerts. */
export function groupBy(alerts: readonly Alert[], label: string): AlertGroup[] {
  const groups = new Map<string, AlertGroup>();
  for (const alert of [...alerts].sort(compare)) {
    const value = label === '' ? '' : (alert.labels[label] ?? '');
    let group = groups.get(value);
    if (group === undefined) groups.set(value, (group = { key: value, labels: label === '' ? {} : { [label]: value }, receiver: '', alerts: [] }));
    group.alerts.push(alert);
  }
  return [...groups.values()];
}

/** Groups of the notifier with those of their alerts that are shown, in the order of their first alerts. */
export function groupsWith(groups: readonly AlertGroup[], shown: ReadonlySet<Alert>): AlertGroup[] {
  const narrowed = groups.map((group) => ({ ...group, alerts: group.alerts.filter((alert) => shown.has(alert)).sort(compare) }));
  return narrowed.filter(({ alerts }) => alerts.length > 0).sort((a, b) => compare(a.alerts[0] as Alert, b.alerts[0] as Alert));
}

/** Names of labels by which alerts may be grouped, the most frequent first. */
export function labelNamesOf(alerts: readonly Alert[], most = 40): string[] {
  const counts = new Map<string, number>();
  for (const { labels } of alerts) for (const name of Object.keys(labels)) counts.set(name, (counts.get(name) ?? 0) + 1);
  counts.delete('alertname');
  return [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1)).slice(0, most).map(([name]) => name);
}

/** Whether a text may be followed as a link: anything else, such as a script, stays text. */
export function isLink(text: string): boolean {
  if (!/^https?:\/\//i.test(text) || /\s/.test(text)) return false;
  try {
    return ['http:', 'https:'].includes(new URL(text).protocol);
  } catch {
    return false;
  }
}
