/**
 * The filter of the Hosts page: label matchers as PromQL writes them, and words.
 *
 *     job="node", zone=~"eu-.*" web
 *
 * All must hold. A word is looked for in the host's name and in the values of its labels, whatever its case.
 * Braces and commas around matchers are allowed, so that a selector can be pasted.
 */

import type { Labels } from '../api/client';

export type MatchOp = '=' | '!=' | '=~' | '!~';

export interface LabelMatcher {
  label: string;
  op: MatchOp;
  value: string;
}

export interface Filter {
  matchers: LabelMatcher[];
  /** In lower case. */
  words: string[];
  /** What in the text could not be understood; then it is left out of what must hold. */
  fault: FilterFault | null;
}

export type FilterFault = { kind: 'quote' | 'regex' | 'value'; text: string };

const MATCHER = /^([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*/;
const QUOTES = '"\'`';

export function parseFilter(text: string): Filter {
  const filter: Filter = { matchers: [], words: [], fault: null };
  let rest = text;
  for (;;) {
    rest = rest.replace(/^[\s,{}]+/, '');
    if (rest === '') return filter;
    const start = MATCHER.exec(rest);
    const taken = takeText(rest.slice(start?.[0].length ?? 0));
    rest = taken.rest;
    if (taken.unclosed) filter.fault ??= { kind: 'quote', text: taken.value };
    if (!start) {
      if (taken.value !== '') filter.words.push(taken.value.toLowerCase());
      continue;
    }
    const matcher: LabelMatcher = { label: start[1] as string, op: start[2] as MatchOp, value: taken.value };
    if (taken.bare && taken.value === '') filter.fault ??= { kind: 'value', text: matcher.label };
    else if (!isRegex(matcher.op) || compilePattern(matcher.value) !== null) filter.matchers.push(matcher);
    else filter.fault ??= { kind: 'regex', text: matcher.value };
  }
}

const isRegex = (op: MatchOp): boolean => op === '=~' || op === '!~';

interface Taken {
  value: string;
  rest: string;
  /** Whether it stood without quotes. */
  bare: boolean;
  unclosed: boolean;
}

/** A text in quotes with PromQL's escapes (none between backquotes), or up to the next space, comma or brace. */
function takeText(text: string): Taken {
  const quote = text[0] ?? '';
  if (quote === '' || !QUOTES.includes(quote)) {
    const value = /^[^\s,{}]*/.exec(text)?.[0] ?? '';
    return { value, rest: text.slice(value.length), bare: true, unclosed: false };
  }
  let value = '';
  for (let i = 1; i < text.length; i++) {
    const sign = text[i] as string;
    if (sign === quote) return { value, rest: text.slice(i + 1), bare: false, unclosed: false };
    if (sign === '\\' && quote !== '`' && i + 1 < text.length) {
      i++;
      value += ESCAPES[text[i] as string] ?? text[i];
    } else {
      value += sign;
    }
  }
  return { value, rest: '', bare: false, unclosed: true };
}

const ESCAPES: Record<string, string> = { n: '\n', t: '\t', r: '\r' };

/** A pattern as Prometheus means it, anchored at both ends; null if it is none. */
function compilePattern(pattern: string): RegExp | null {
  // RE2 has flags at the front, which JavaScript keeps elsewhere.
  const flags = /^\(\?([is]+)\)/.exec(pattern);
  const body = pattern.slice(flags?.[0].length ?? 0);
  try {
    return new RegExp(`^(?:${body})$`, [...new Set(`s${flags?.[1] ?? ''}`)].join(''));
  } catch {
    return null;
  }
}

export interface Filterable {
  instance: string;
  labels: Labels;
}

/** Compiles a filter to a test of one host. A label that a host lacks is empty, as in PromQL. */
export function compileFilter(filter: Filter): (host: Filterable) => boolean {
  const tests = filter.matchers.map(({ label, op, value }): ((labels: Labels) => boolean) => {
    if (op === '=') return (labels) => (labels[label] ?? '') === value;
    if (op === '!=') return (labels) => (labels[label] ?? '') !== value;
    const pattern = compilePattern(value);
    if (!pattern) return () => true;
    return (labels) => pattern.test(labels[label] ?? '') === (op === '=~');
  });
  return (host) =>
    tests.every((holds) => holds(host.labels)) &&
    (filter.words.length === 0 || filter.words.every((word) => haystack(host).includes(word)));
}

const haystacks = new WeakMap<Labels, string>();

/** Joined once per label set, which is kept as long as the host has it. */
function haystack(host: Filterable): string {
  let text = haystacks.get(host.labels);
  if (text === undefined) {
    text = `${host.instance}\n${Object.values(host.labels).join('\n')}`.toLowerCase();
    haystacks.set(host.labels, text);
  }
  return text;
}

/** The text with a matcher added, in place of an equality for the same label. */
export function withMatcher(text: string, label: string, value: string): string {
  const { matchers, words } = parseFilter(text);
  const kept = matchers.filter((matcher) => matcher.label !== label || matcher.op !== '=');
  return filterText({ matchers: [...kept, { label, op: '=', value }], words });
}

/** A filter as one would type it. */
export function filterText({ matchers, words }: Pick<Filter, 'matchers' | 'words'>): string {
  const written = matchers.map(({ label, op, value }) => `${label}${op}${JSON.stringify(value)}`);
  return [...written, ...words.map((word) => (/[\s,{}"'`=!]/.test(word) ? JSON.stringify(word) : word))].join(' ');
}
