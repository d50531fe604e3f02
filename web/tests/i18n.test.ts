import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { en as enFirst } from '../src/lib/i18n/en';
import { enPages } from '../src/lib/i18n/en-pages';
import { fill, placeholders } from '../src/lib/i18n/fill';
import { zh as zhFirst } from '../src/lib/i18n/zh';
import { zhPages } from '../src/lib/i18n/zh-pages';

const en = { ...enFirst, ...enPages };
const zh = { ...zhFirst, ...zhPages };

function sources(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? sources(path) : /\.(svelte|ts)$/.test(name) ? [path] : [];
  });
}

describe('dictionaries', () => {
  test('have the same keys in the same order', () => {
    expect(Object.keys(zhFirst)).toEqual(Object.keys(enFirst));
    expect(Object.keys(zhPages)).toEqual(Object.keys(enPages));
  });

  test('say nothing twice', () => {
    expect(Object.keys(en)).toHaveLength(Object.keys(enFirst).length + Object.keys(enPages).length);
  });

  test('say something and want the same values filled in', () => {
    const keys = Object.keys(en) as (keyof typeof en)[];
    const differing = keys.filter((key) => zh[key] === '' || String(placeholders(zh[key])) !== String(placeholders(en[key])));
    expect(differing).toEqual([]);
  });

  test('are there where they are read: only pages that are loaded with their texts read those', () => {
    const withTexts = /pages\/(access|agents|alerts|cardinality|cluster|explore|login|logs|pushes|queries|receivers|rules|silences|status|targets)\//;
    const early = sources(join(import.meta.dirname, '../src')).filter((path) => !withTexts.test(path) && !/i18n\//.test(path));
    const misread = early.flatMap((path) => {
      const code = readFileSync(path, 'utf8');
      return Object.keys(enPages).filter((key) => code.includes(`'${key}'`)).map((key) => `${path}: ${key}`);
    });
    expect(misread).toEqual([]);
  });

  test('hold no text that nothing shows', () => {
    const code = sources(join(import.meta.dirname, '../src'))
      .filter((path) => !/i18n\/(en|zh)(-\w+)?\.ts$/.test(path))
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
