/** Lines as a file: text as it came, or JSON lines, which `/insert/jsonline` reads back. */

import { fieldsOf } from './fields';
import type { Line } from './line';
import { fetchPage, FIRST_PAGE, MOST_PER_REQUEST, type Page, type Times } from './run';
import { utcTime } from './time';

export const FORMATS = ['text', 'json'] as const;
export type Format = (typeof FORMATS)[number];

export function written(line: Line, format: Format): string {
  if (format === 'text') return `${utcTime(line.ns)} ${line.text}\n`;
  const fields = fieldsOf(line).filter(({ source }) => source === 'stream' || source === 'metadata' || source === 'parsed');
  return `${JSON.stringify({ _time: utcTime(line.ns), _msg: line.text, ...Object.fromEntries(fields.map(({ name, value }) => [name, value])) })}\n`;
}

/** Hands a file to the browser. */
export function save(parts: readonly string[], format: Format): void {
  const type = format === 'text' ? 'text/plain;charset=utf-8' : 'application/x-ndjson';
  const url = URL.createObjectURL(new Blob([...parts], { type }));
  const link = document.createElement('a');
  link.href = url;
  link.download = `logs-${new Date().toISOString().slice(0, 19).replace(/[:T]/g, '-')}.${format === 'text' ? 'log' : 'jsonl'}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Lines that one file may have: it is put together in the memory of the browser. */
export const MOST_IN_FILE = 1_000_000;

/** All lines of a query, the oldest first; tells how many there are as it goes. */
export async function everyLine(query: string, times: Times, format: Format, told: (lines: number) => void, signal: AbortSignal): Promise<string[]> {
  const parts: string[] = [];
  let count = 0;
  for (let cursor: string | null = FIRST_PAGE; cursor !== null && count < MOST_IN_FILE; ) {
    const page: Page = await fetchPage(query, times, 'forward', MOST_PER_REQUEST, cursor, signal);
    parts.push(page.lines.map((line) => written(line, format)).join(''));
    count += page.lines.length;
    cursor = page.next;
    told(count);
  }
  return parts;
}
