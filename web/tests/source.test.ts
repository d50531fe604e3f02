import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');
const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter((path) => /\.(svelte|ts)$/.test(path));

// Label values come from anyone who may send metrics. They are text, never markup.
test('nothing turns text into markup', () => {
  const offenders = sources.filter((path) =>
    /\{@html|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function/.test(readFileSync(join(root, 'src', path), 'utf8')),
  );
  expect(offenders).toEqual([]);
});

test('the page has no inline script or style and asks no other origin', () => {
  const page = readFileSync(join(root, 'index.html'), 'utf8');
  expect(page).not.toMatch(/<style|style=|\son\w+=/);
  expect([...page.matchAll(/<script\b([^>]*)>/g)].every(([, attributes]) => attributes?.includes('src="/'))).toBe(true);
  expect([...page.matchAll(/(?:src|href)="([^"]*)"/g)].every(([, url]) => url?.startsWith('/') && !url.startsWith('//'))).toBe(true);
});

test('the lock file names no registry', () => {
  expect(readFileSync(join(root, 'package-lock.json'), 'utf8')).not.toMatch(/"resolved"|https?:\/\/[^"]*\.tgz/);
});
