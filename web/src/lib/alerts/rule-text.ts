/** A rule as somebody writes it: from a form to YAML. */

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

/** A group with this rule in it, as the API takes it. */
export function groupYaml(draft: RuleDraft, group = 'my-group'): string {
  const lines = [`name: ${plain(group)}`, 'rules:', `  - alert: ${plain(draft.name.trim() || 'MyAlert')}`];
  const expr = draft.expr.trim();
  if (/\n/.test(expr)) lines.push('    expr: |-', ...expr.split('\n').map((line) => `      ${line}`.trimEnd()));
  else lines.push(`    expr: ${quoted(expr)}`);
  if (draft.holds.trim() !== '') lines.push(`    for: ${draft.holds.trim()}`);
  if (draft.keeps.trim() !== '') lines.push(`    keep_firing_for: ${draft.keeps.trim()}`);
  for (const [title, pairs] of [['labels', named(draft.labels)], ['annotations', named(draft.annotations)]] as const) {
    if (pairs.length === 0) continue;
    lines.push(`    ${title}:`, ...pairs.map(([name, value]) => `      ${plain(name)}: ${quoted(value)}`));
  }
  return `${lines.join('\n')}\n`;
}

/** A file of rules with this one in it. */
export function ruleYaml(draft: RuleDraft, group = 'my-group'): string {
  const lines = groupYaml(draft, group).trimEnd().split('\n');
  return `groups:\n${lines.map((line, at) => `${at === 0 ? '  - ' : '    '}${line}`.trimEnd()).join('\n')}\n`;
}

/** A group somebody begins to write, or to change; without a name it is new. */
export interface GroupSeed {
  language: 'promql' | 'logql';
  namespace: string;
  name: string | null;
  yaml: string;
}

export const NEW_GROUP: GroupSeed = {
  language: 'promql',
  namespace: 'console',
  name: null,
  yaml: `name: my-group
interval: 1m
rules:
  - alert: HighLoad
    expr: node_load1 > 4
    for: 5m
    labels:
      severity: warning
    annotations:
      summary: 'Load of {{ $labels.instance }} is {{ $value | humanize }}'
`,
};
