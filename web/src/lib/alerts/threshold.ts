/** The threshold of an alerting rule, read off its outline: `expr > 0.9`. */

export interface Threshold {
  /** What is compared. */
  expr: string;
  op: '>' | '>=' | '<' | '<=' | '==' | '!=';
  value: number;
}

const NUMBER = /^[+-]?(?:0x[0-9a-f]+|(?:\d[\d_]*\.?[\d_]*|\.\d+)(?:e[+-]?\d+)?)$/i;
const FLIPPED = { '>': '<', '>=': '<=', '<': '>', '<=': '>=', '==': '==', '!=': '!=' } as const;
const QUOTES = '"\'`';

/** The number that a text is: one, or a product of some, as in `5 * 60`; null otherwise. */
function constant(text: string): number | null {
  let product = 1;
  for (const part of text.trim().replace(/^\((.*)\)$/s, '$1').split('*')) {
    const factor = part.trim().replaceAll('_', '');
    if (!NUMBER.test(factor)) return null;
    product *= Number(factor);
  }
  return product;
}

/** The text without its comments, which end at their line. */
function withoutComments(text: string): string {
  let plain = '';
  for (let i = 0; i < text.length; i++) {
    const sign = text[i] as string;
    if (QUOTES.includes(sign)) {
      const end = endOfText(text, i);
      plain += text.slice(i, end);
      i = end - 1;
    } else if (sign === '#') {
      while (i < text.length && text[i] !== '\n') i++;
      plain += '\n';
    } else plain += sign;
  }
  return plain;
}

function endOfText(text: string, start: number): number {
  const quote = text[start];
  for (let i = start + 1; i < text.length; i++) {
    if (text[i] === '\\' && quote !== '`') i++;
    else if (text[i] === quote) return i + 1;
  }
  return text.length;
}

/**
 * The threshold that an expression ends with, or null if it has another shape: several comparisons, sets
 * joined by `and`, a comparison with something that moves.
 */
export function splitThreshold(query: string): Threshold | null {
  let text = withoutComments(query).trim();
  // What is in brackets as a whole is looked into.
  while (text.startsWith('(') && closing(text, 0) === text.length - 1) text = text.slice(1, -1).trim();
  let depth = 0;
  let found: { at: number; op: Threshold['op'] } | null = null;
  for (let i = 0; i < text.length; i++) {
    const sign = text[i] as string;
    if (QUOTES.includes(sign)) {
      i = endOfText(text, i) - 1;
      continue;
    }
    if ('([{'.includes(sign)) depth++;
    else if (')]}'.includes(sign)) depth--;
    if (depth !== 0) continue;
    const rest = text.slice(i, i + 8);
    const before = text[i - 1] ?? ' ';
    if (/^(?:and|or|unless)\b/i.test(rest) && !/[\w:.]/.test(before)) return null;
    const op = /^(?:>=|<=|==|!=|>|<)/.exec(rest)?.[0] as Threshold['op'] | undefined;
    if (op === undefined) continue;
    if (found !== null) return null;
    found = { at: i, op };
    i += op.length - 1;
  }
  if (found === null) return null;
  const left = text.slice(0, found.at).trim();
  const right = text.slice(found.at + found.op.length).trim();
  // Yields 0 or 1 for each series instead of dropping some.
  if (/^bool\b/.test(right) || left === '' || right === '') return null;
  const [low, high] = [constant(left), constant(right)];
  if (high !== null && low === null) return { expr: left, op: found.op, value: high };
  if (low !== null && high === null) return { expr: right, op: FLIPPED[found.op], value: low };
  return null;
}

function closing(text: string, start: number): number {
  let depth = 0;
  for (let i = start; i < text.length; i++) {
    const sign = text[i] as string;
    if (QUOTES.includes(sign)) i = endOfText(text, i) - 1;
    else if (sign === '(') depth++;
    else if (sign === ')' && --depth === 0) return i;
  }
  return -1;
}
