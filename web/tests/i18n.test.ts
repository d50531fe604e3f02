import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { en } from '../src/lib/i18n/en';
import { fill, placeholders } from '../src/lib/i18n/fill';
import { zh } from '../src/lib/i18n/zh';

function sources(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? sources(path) : /\.(svelte|ts)$/.test(name) ? [path] : [];
  });
}

describe('dictionaries', () => {
  test('have the same keys in the same order', () => {
    expect(Object.keys(zh)).toEqual(Object.keys(en));
  });

  test('say something and want the same values filled in', () => {
    const keys = Object.keys(en) as (keyof typeof en)[];
    const differing = keys.filter((key) => zh[key] === '' || String(placeholders(zh[key])) !== String(placeholders(en[key])));
    expect(differing).toEqual([]);
  });

  test('hold no text that nothing shows', () => {
    const code = sources(join(import.meta.dirname, '../src'))
      .filter((path) => !/i18n\/(en|zh)\.ts$/.test(path))
      .map((path) => readFileSync(path, 'utf8'))
      .join('\n');
    // Keys made at run time: `prefix.${x}`.
    const made = [...code.matchAll(/`([a-z][\w.]*\.)\$\{/g)].map((m) => m[1] as string);
    const unused = Object.keys(en).filter(
      (key) => !code.includes(`'${key}'`) && !made.some((prefix) => key.startsWith(prefix)),
    );
    expect(unused).toEqual([]);
  });
});

describe('fill', () => {
  test.each([
    ['{n} host | {n} hosts', { n: 1 }, '1 host'],
    ['{n} host | {n} hosts', { n: 0 }, '0 hosts'],
    ['{n} 台主机', { n: 12345 }, '12,345 台主机'],
    ['up {time}', { time: '3d 4h' }, 'up 3d 4h'],
    ['{missing} stays', {}, '{missing} stays'],
  ])('%s', (text, values, wanted) => {
    expect(fill(text, values)).toBe(wanted);
  });
});
