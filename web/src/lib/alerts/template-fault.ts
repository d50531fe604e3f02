/** Where in a template its fault lies. Go's parser tells the line alone, and what runs a template counts columns in bytes. */

import type { Rendered } from '../api/alerting';

export type TemplateError = Extract<Rendered, { error: unknown }>['error'];

export interface TemplatePlace {
  /** From 1. */
  line: number;
  /** From 1, in characters; null where only the line is known. */
  column: number | null;
  /** Characters that are marked, from the column on or from the line's first one that is no space. */
  length: number;
  /** A block that has no end, as it is written. */
  unclosed: string | null;
}

/** What is wrong, without the place before it. */
export const bareMessage = (message: string): string => message.replace(/^template: :\d+(?::\d+)?: /, '');

const lettersIn = (text: string): number => [...text].length;

/** The innermost block that is not closed. */
function unclosedBlock(template: string): { offset: number; text: string } | null {
  const open: { offset: number; text: string }[] = [];
  for (const match of template.matchAll(/\{\{-?\s*(\/\*|(?:range|if|with|define|block|end)\b)[\s\S]*?\}\}/g)) {
    if (match[1] === 'end') open.pop();
    else if (match[1] !== '/*') open.push({ offset: match.index, text: match[0] });
  }
  return open.at(-1) ?? null;
}

/** What a fault names that stands in the line. */
function namedIn(line: string, message: string): { from: number; text: string } | null {
  const [, name] = /(?:function|undefined variable|unexpected|bad character|at <)\s*"?([^">]+?)"?(?:>| not defined| in |$|:)/.exec(message) ?? [];
  const from = name === undefined ? -1 : line.indexOf(name);
  if (name !== undefined && from >= 0) return { from, text: name };
  // What begins and does not end.
  const opened = line.lastIndexOf('{{');
  return opened >= 0 && line.indexOf('}}', opened) < 0 ? { from: opened, text: line.slice(opened) } : null;
}

/** Null where the fault is in a template of a file, or nobody knows. */
export function placeIn(template: string, { message, template: of, line, column }: TemplateError): TemplatePlace | null {
  if (of !== '' || line === null) return null;
  const block = message.endsWith('unexpected EOF') ? unclosedBlock(template) : null;
  if (block !== null) {
    const before = template.slice(0, block.offset).split('\n');
    const [first = ''] = block.text.split('\n');
    return { line: before.length, column: lettersIn(before.at(-1) ?? '') + 1, length: lettersIn(first), unclosed: block.text };
  }
  const own = template.split('\n')[line - 1];
  if (own === undefined) return null;
  if (column !== null) {
    const before = new TextDecoder().decode(new TextEncoder().encode(own).slice(0, column));
    // It names the whole of what it was about to run, and has the place of any part of that.
    const told = (/at <(.*?)>: /.exec(message)?.[1] ?? '').replace(/\.\.\.$/, '');
    const whole = told === '' ? -1 : own.lastIndexOf(told, before.length);
    if (whole >= 0 && whole + told.length > before.length) {
      return { line, column: lettersIn(own.slice(0, whole)) + 1, length: lettersIn(told), unclosed: null };
    }
    const rest = own.slice(before.length);
    const ended = rest.indexOf('}}');
    const part = ended < 0 ? rest : rest.slice(0, ended);
    return { line, column: lettersIn(before) + 1, length: Math.max(lettersIn(part.trimEnd()), 1), unclosed: null };
  }
  const named = namedIn(own, message);
  if (named !== null) return { line, column: lettersIn(own.slice(0, named.from)) + 1, length: lettersIn(named.text), unclosed: null };
  return { line, column: null, length: Math.max(lettersIn(own.trim()), 1), unclosed: null };
}
