/**
 * The outline of a query of lines: its selector and its stages, with their places in the text. What a query means
 * is the server's parser's to say; this is so much as building one by hand and filtering by a click need.
 */

import { quote } from '../api/client';

export const MATCH_OPS = ['=', '!=', '=~', '!~'] as const;
export type MatchOp = (typeof MATCH_OPS)[number];
export const LINE_OPS = ['|=', '!=', '|~', '!~', '|>', '!>'] as const;
export type LineOp = (typeof LINE_OPS)[number];
export const PARSERS = ['json', 'logfmt', 'unpack', 'pattern', 'regexp'] as const;
export type ParserName = (typeof PARSERS)[number];
export const COMPARISONS = ['=', '!=', '=~', '!~', '>', '>=', '<', '<='] as const;
export type Comparison = (typeof COMPARISONS)[number];

export interface Matcher {
  label: string;
  op: MatchOp;
  value: string;
}

export type Stage =
  | { kind: 'line'; op: LineOp; texts: string[] }
  | { kind: 'parser'; name: ParserName; argument: string }
  | { kind: 'label'; label: string; op: Comparison; value: string; isQuoted: boolean }
  /** Whatever else there is, as it was written, with its `|`. */
  | { kind: 'other'; text: string };

export interface LogQuery {
  matchers: Matcher[];
  stages: Stage[];
}

interface Place {
  from: number;
  to: number;
}

export interface ReadQuery extends LogQuery {
  /** Where each matcher stands, in their order. */
  places: Place[];
  /** Where the selector's closing brace stands. */
  close: number;
  /** Where each stage stands, in their order. */
  stagePlaces: Place[];
}

type TokenKind = 'word' | 'string' | 'number' | 'sign';

interface Token extends Place {
  kind: TokenKind;
  text: string;
}

const SIGNS = ['|=', '|~', '|>', '!=', '!~', '!>', '=~', '==', '>=', '<='];
const BLANK = /^(?:\s+|#[^\n]*|\/\/[^\n]*|\/\*[\s\S]*?\*\/)+/;
const WORD = /^[\p{L}_][\p{L}\p{N}_]*/u;
const NUMBER = /^\d[\p{L}\p{N}_.]*/u;
const STRING = /^(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)/;

/** The tokens of a text; null if a quotation is not closed. */
export function tokensOf(text: string): Token[] | null {
  const tokens: Token[] = [];
  let at = 0;
  while (at < text.length) {
    const rest = text.slice(at);
    const blank = BLANK.exec(rest)?.[0].length ?? 0;
    if (blank > 0) {
      at += blank;
      continue;
    }
    const found: [TokenKind, string] | null = /^["'`]/.test(rest)
      ? matchedBy(STRING, 'string', rest)
      : (matchedBy(WORD, 'word', rest) ?? matchedBy(NUMBER, 'number', rest) ?? ['sign', SIGNS.find((sign) => rest.startsWith(sign)) ?? rest.slice(0, 1)]);
    if (!found) return null;
    tokens.push({ kind: found[0], text: found[1], from: at, to: at + found[1].length });
    at += found[1].length;
  }
  return tokens;
}

function matchedBy(pattern: RegExp, kind: TokenKind, rest: string): [TokenKind, string] | null {
  const found = pattern.exec(rest)?.[0];
  return found === undefined ? null : [kind, found];
}

const ESCAPES: Record<string, string> = { n: '\n', t: '\t', r: '\r', a: '\x07', b: '\b', f: '\f', v: '\v' };

/** What a quoted text stands for. */
export function unquote(token: string): string {
  const inside = token.slice(1, -1);
  if (token.startsWith('`')) return inside;
  return inside.replace(/\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([0-7]{3})|(.))/g, (_, x, u, long, octal, sign) => {
    if (sign !== undefined) return ESCAPES[sign as string] ?? (sign as string);
    const code = octal !== undefined ? parseInt(octal as string, 8) : parseInt((x ?? u ?? long) as string, 16);
    return code <= 0x10ffff ? String.fromCodePoint(code) : '\ufffd';
  });
}

/** A text as a filter writes it: without escapes where they would only be in the way. */
export const written = (text: string): string => (/[\\"]/.test(text) && !/[`\r]/.test(text) ? `\`${text}\`` : quote(text).replace(/\r/g, '\\r'));

const isOf = <T extends string>(list: readonly T[], text: string): text is T => (list as readonly string[]).includes(text);
const LINE_ONLY = ['|=', '|~', '|>', '!>'];

/** The outline of a query of lines; null if the text is none, or not whole. */
export function readLogQuery(text: string): ReadQuery | null {
  const tokens = tokensOf(text);
  if (!tokens || tokens[0]?.text !== '{') return null;
  const selector = readSelector(tokens);
  if (!selector) return null;
  const stages = readStages(text, tokens.slice(selector.next));
  return stages && { ...stages, matchers: selector.matchers, places: selector.places, close: selector.close };
}

function readSelector(tokens: readonly Token[]): { matchers: Matcher[]; places: Place[]; close: number; next: number } | null {
  const matchers: Matcher[] = [];
  const places: Place[] = [];
  let next = 1;
  while (tokens[next] && tokens[next]?.text !== '}') {
    const [label, op, value] = tokens.slice(next, next + 3) as (Token | undefined)[];
    if (label?.kind !== 'word' || !op || !isOf(MATCH_OPS, op.text) || value?.kind !== 'string') return null;
    matchers.push({ label: label.text, op: op.text, value: unquote(value.text) });
    places.push({ from: label.from, to: value.to });
    next += 3;
    if (tokens[next]?.text === ',') next++;
    else if (tokens[next]?.text !== '}') return null;
  }
  const close = tokens[next];
  return close ? { matchers, places, close: close.from, next: next + 1 } : null;
}

function readStages(text: string, tokens: readonly Token[]): { stages: Stage[]; stagePlaces: Place[] } | null {
  const stages: Stage[] = [];
  const stagePlaces: Place[] = [];
  let at = 0;
  while (at < tokens.length) {
    const first = tokens[at] as Token;
    const end = endOfStage(tokens, at);
    const parts = tokens.slice(at, end);
    const stage = readStage(text, parts);
    if (!stage) return null;
    stages.push(stage);
    stagePlaces.push({ from: first.from, to: (parts[parts.length - 1] as Token).to });
    at = end;
  }
  return { stages, stagePlaces };
}

/** Behind these words a comparison would compare nothing, so it is a filter of lines. */
const WHOLE = new Set(['json', 'logfmt', 'unpack', 'decolorize']);

function endOfStage(tokens: readonly Token[], start: number): number {
  const isFilter = tokens[start]?.text !== '|';
  let depth = 0;
  for (let i = start + 1; i < tokens.length; i++) {
    const { text, kind } = tokens[i] as Token;
    if (kind !== 'sign') continue;
    if (text === '(') depth++;
    else if (text === ')') depth--;
    else if (depth > 0) continue;
    else if (text === '|' || LINE_ONLY.includes(text)) return i;
    else if (text === '!=' || text === '!~') {
      const before = tokens[i - 1] as Token;
      if (isFilter || before.kind !== 'word' || (WHOLE.has(before.text.toLowerCase()) && i === start + 2)) return i;
    }
  }
  return tokens.length;
}

function readStage(text: string, parts: readonly Token[]): Stage | null {
  const [first, second, third, fourth] = parts as [Token, ...(Token | undefined)[]];
  const whole = text.slice(first.from, (parts[parts.length - 1] as Token).to);
  if (isOf(LINE_OPS, first.text)) {
    const texts = parts.filter((_, i) => i % 2 === 1);
    const ors = parts.filter((_, i) => i > 0 && i % 2 === 0);
    const isPlain = texts.length === ors.length + 1 && texts.every(({ kind }) => kind === 'string') && ors.every((or) => or.text.toLowerCase() === 'or');
    return isPlain ? { kind: 'line', op: first.text, texts: texts.map((one) => unquote(one.text)) } : { kind: 'other', text: whole };
  }
  if (first.text !== '|' || !second) return null;
  const name = second.text.toLowerCase();
  if (second.kind === 'word' && isOf(PARSERS, name)) {
    const argument = third ? text.slice(third.from, (parts[parts.length - 1] as Token).to) : '';
    const takesText = name === 'pattern' || name === 'regexp';
    if (takesText && parts.length === 3 && third?.kind === 'string') return { kind: 'parser', name, argument: unquote(third.text) };
    return takesText ? { kind: 'other', text: whole } : { kind: 'parser', name, argument };
  }
  if (second.kind === 'word' && third && fourth && parts.length === 4) {
    const op = third.text === '==' ? '=' : third.text;
    if (isOf(COMPARISONS, op) && fourth.kind === 'string') return { kind: 'label', label: second.text, op, value: unquote(fourth.text), isQuoted: true };
    if (isOf(COMPARISONS, op) && fourth.kind === 'number') return { kind: 'label', label: second.text, op, value: fourth.text, isQuoted: false };
  }
  return { kind: 'other', text: whole };
}

/** A value that is compared by size stands without quotation marks. */
const isQuantity = (value: string): boolean => /^\d+(?:\.\d+)?(?:[a-zA-Zµ]\w*)?$/.test(value);

export function writeStage(stage: Stage): string {
  switch (stage.kind) {
    case 'line':
      return `${stage.op} ${stage.texts.map(written).join(' or ')}`;
    case 'parser':
      if (stage.name === 'pattern' || stage.name === 'regexp') return `| ${stage.name} ${written(stage.argument)}`;
      return stage.argument === '' ? `| ${stage.name}` : `| ${stage.name} ${stage.argument}`;
    case 'label': {
      const isPlain = /^[<>]/.test(stage.op) ? isQuantity(stage.value) : !stage.isQuoted && isQuantity(stage.value);
      return `| ${stage.label} ${stage.op} ${isPlain ? stage.value : written(stage.value)}`;
    }
    default:
      return stage.text;
  }
}

export const writeMatcher = ({ label, op, value }: Matcher): string => `${label}${op}${written(value)}`;

export function writeLogQuery({ matchers, stages }: LogQuery): string {
  return [`{${matchers.map(writeMatcher).join(', ')}}`, ...stages.map(writeStage)].join(' ');
}

/** As {@link writeLogQuery}, of what is whole: conditions without a name or a text are still being written. Empty if nothing is. */
export function writeWhole({ matchers, stages }: LogQuery): string {
  const named = matchers.filter(({ label, value }) => label !== '' && value !== '');
  const kept = stages.filter((stage) => (stage.kind === 'line' ? stage.texts.some((text) => text !== '') : stage.kind !== 'label' || (stage.label !== '' && stage.value !== '')));
  // What has no streams yet is asked of all.
  const whole = named.length === 0 && kept.length > 0 ? [{ label: 'service_name', op: '=~' as const, value: '.+' }] : named;
  return whole.length === 0 && kept.length === 0 ? '' : writeLogQuery({ matchers: whole, stages: kept });
}

/** A stage at the end of a query, on a line of its own if a comment would swallow it. */
export function withStage(text: string, stage: Stage): string {
  const lastLine = text.slice(text.lastIndexOf('\n') + 1);
  return `${text.trimEnd()}${/#|\/\//.test(lastLine) ? '\n' : ' '}${writeStage(stage)}`;
}

/**
 * A matcher more in the selector. One that says the opposite gives way, as does one that asks for another value, or
 * any, of a label that shall have this one.
 */
export function withMatcher(text: string, matcher: Matcher): string {
  const read = readLogQuery(text);
  if (!read) return text;
  const isAny = (value: string) => value === '.+' || value === '.*';
  const at = read.matchers.findIndex(({ label, op, value }) => label === matcher.label && (value === matcher.value || (matcher.op === '=' && (op === '=' || isAny(value)))));
  const place = read.places[at];
  if (place) {
    const rest = read.matchers.filter((_, i) => i !== at);
    // A selector has to ask for something that is there.
    const isBare = matcher.op !== '=' && !rest.some(({ op, value }) => value !== '' && (op === '=' || op === '=~'));
    return text.slice(0, place.from) + writeMatcher(matcher) + (isBare ? `, ${matcher.label}=~".+"` : '') + text.slice(place.to);
  }
  const comma = read.matchers.length === 0 ? '' : /,\s*$/.test(text.slice(0, read.close)) ? ' ' : ', ';
  return `${text.slice(0, read.close)}${comma}${writeMatcher(matcher)}${text.slice(read.close)}`;
}

/** A condition upon a field that is no label of streams; the opposite condition gives way. */
export function withCondition(text: string, label: string, op: '=' | '!=', value: string): string {
  const read = readLogQuery(text);
  if (!read) return text;
  const at = read.stages.findIndex((stage) => stage.kind === 'label' && stage.label === label && stage.value === value);
  const place = read.stagePlaces[at];
  const stage: Stage = { kind: 'label', label, op, value, isQuoted: true };
  return place ? text.slice(0, place.from) + writeStage(stage) + text.slice(place.to) : withStage(text, stage);
}

/** The same query, in which lines are read by this parser. */
export function withParser(text: string, name: 'json' | 'logfmt'): string {
  const read = readLogQuery(text);
  if (!read || read.stages.some((stage) => stage.kind === 'parser' && stage.name === name && stage.argument === '')) return text;
  return withStage(text, { kind: 'parser', name, argument: '' });
}

/** Whether any stage may leave a line with an error, which a count would not pass over. */
export const mayFail = (query: LogQuery): boolean => query.stages.some((stage) => stage.kind !== 'line');

/** What asks for the lines with a condition that counts may stand behind. */
export const countable = (text: string, query: LogQuery): string =>
  mayFail(query) ? withStage(text, { kind: 'other', text: '| drop __error__, __error_details__' }) : text;

/** A selector of these matchers; empty if there are none. */
export const selectorText = (matchers: readonly Matcher[]): string => (matchers.length === 0 ? '' : `{${matchers.map(writeMatcher).join(', ')}}`);

/** A selector of exactly one stream, or of those that have these labels. */
export const selectorOf = (labels: Readonly<Record<string, string>>): string =>
  `{${Object.entries(labels).map(([label, value]) => writeMatcher({ label, op: '=', value })).join(', ')}}`;
