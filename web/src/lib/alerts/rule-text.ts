/** A rule as somebody writes it: from a form to YAML, and to templates that tell what it would say. */

import type { Labels } from '../api/client';

export interface RuleDraft {
  name: string;
  expr: string;
  /** Durations as Prometheus writes them; empty: none. */
  holds: string;
  keeps: string;
  labels: [string, string][];
  annotations: [string, string][];
}

const named = (pairs: readonly [string, string][]): [string, string][] => pairs.filter(([name]) => name.trim() !== '').map(([name, value]) => [name.trim(), value]);

/** A text as YAML reads it back, whatever is in it: JSON's strings are YAML's. */
const quoted = (text: string): string => JSON.stringify(text);
const plain = (text: string): string => (/^[A-Za-z_][\w-]*$/.test(text) ? text : quoted(text));

/** A file of rules with this one in it. */
export function ruleYaml(draft: RuleDraft, group = 'my-group'): string {
  const lines = ['groups:', `  - name: ${plain(group)}`, '    rules:', `      - alert: ${plain(draft.name.trim() || 'MyAlert')}`];
  const expr = draft.expr.trim();
  if (/\n/.test(expr)) lines.push('        expr: |-', ...expr.split('\n').map((line) => `          ${line}`.trimEnd()));
  else lines.push(`        expr: ${quoted(expr)}`);
  if (draft.holds.trim() !== '') lines.push(`        for: ${draft.holds.trim()}`);
  if (draft.keeps.trim() !== '') lines.push(`        keep_firing_for: ${draft.keeps.trim()}`);
  for (const [title, pairs] of [['labels', named(draft.labels)], ['annotations', named(draft.annotations)]] as const) {
    if (pairs.length === 0) continue;
    lines.push(`        ${title}:`, ...pairs.map(([name, value]) => `          ${plain(name)}: ${quoted(value)}`));
  }
  return `${lines.join('\n')}\n`;
}

/** The labels an alert would have, as long as those of the rule are no templates. */
export function alertLabels(draft: RuleDraft, series: Labels): Labels {
  const labels = { ...series };
  delete labels['__name__'];
  for (const [name, value] of named(draft.labels)) labels[name] = value;
  labels['alertname'] = draft.name.trim() || 'MyAlert';
  return labels;
}

/**
 * The template of a receiver that says what one of a rule does: there labels and the value are variables, here
 * they are those of the only alert.
 */
export function asNotice(template: string, value: number): string {
  const number = Number.isFinite(value) ? (Number.isInteger(value) ? value.toFixed(1) : String(value)) : '0.0';
  // Variables that nothing uses are no fault of templates.
  return `{{ $labels := (index .Alerts 0).Labels }}{{ $value := ${number} }}${template}`;
}
